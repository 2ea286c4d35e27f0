"""Learn a dual encoder for a folder from the names of its images.

Texts become vectors by latent semantic analysis of words and word pieces (Deerwester et al. 1990). Images become
vectors by kernel ridge regression from features of the bundled encoder's image tower to the vectors of their texts.
Both are solved in closed form, so that almost all of the time is spent on computing the features.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionless.data.arrays import read_arrays
from captionless.data.cache import cache_folder
from captionless.data.decode import BACKGROUND
from captionless.data.images import ImageFile, is_held_out
from captionless.encoders.cache import EncodingVisitor, VectorCache
from captionless.encoders.dual_encoder import batches, encoder_batch_size, load_encoder
from captionless.encoders.hub import BUNDLED, BUNDLED_FOLDER, NAME_ENCODER
from captionless.encoders.image_texts import image_texts, name_words
from captionless.encoders.name_encoder import NameEncoder, NameImageSide, gaussian_kernel, image_features
from captionless.encoders.name_text import choose_pieces, piece_matrix
from captionless.encoders.vocabulary import singulars, split_words, write_vocabulary
from captionless.errors import CaptionlessError
from captionless.files import atomic_folder
from captionless.paths import is_vacant, kind_of, user_path
from captionless.progress import Progress, choose_progress
from captionless.tensor_files import save_tensors
from captionless.text_files import write_text

MIN_IMAGES = 20
MAX_IMAGES = 4096
"""Images to learn from; in larger folders, they are chosen by content hash."""
MAX_WIDTH = 512
RIDGE = 0.1
"""Weight of the ridge penalty; recall hardly changes from 0.03 to 0.3."""
PROJECTED = 384
"""Principal components of the image features."""
SHARE_HELD_OUT = 0.2
RANK = 10
_SCALES = (5.0, 10.0, 20.0, 40.0, 80.0)
_FUNCTION_WORDS = "an the of with and or in on at to from for by is are it its this that photo picture image"


@dataclass(frozen=True)
class NameQuality:
    """How well names find their own images among held-out images, for an encoder learned without these."""

    images: int  # number of held-out images
    recall: float  # share of them that are among the 10 images nearest to their text
    logit_scale: float  # the inverse temperature with the highest likelihood

    def __str__(self) -> str:
        """State the recall and its chance level."""
        if self.images <= RANK:
            return "too few images to hold some out and test it"
        chance = RANK / self.images
        return (
            f"{self.recall:.0%} of {self.images:,} held-out images are among the {RANK} nearest to their name "
            f"(chance: {chance:.0%})"
        )


def learn_encoder(
    folder: str | Path,
    out: str | Path,
    *,
    texts: Mapping[str, str] | None = None,
    hold_out: float = 0.0,
    background: str = BACKGROUND,
    progress: Progress | bool | None = None,
) -> tuple[NameEncoder, NameQuality]:
    """Learn an encoder for the images of a folder from their names, and write it to a new folder.

    A fifth of the images, those with the smallest content hashes, is first set aside to measure the encoder; the one
    that is written is then learned from all.

    Args:
        folder: the folder of images, searched recursively.
        out: the folder to write, which `load_encoder` accepts.
        texts: the text of each image, by its path relative to the folder; by default those of `image_texts`: the names
            of sub-folders and files and, where there are any, ``.txt`` files beside the images or ``metadata.jsonl``.
        hold_out: share of the images not to learn from, as in `train`.
        background: colour behind transparent images, which `embed` and `train` must then be given too.
        progress: as in `embed`.

    Raises:
        CaptionlessError: ``out`` is not empty, there are too few images, or their names have too few words.
    """
    progress, out = choose_progress(progress), user_path(out)
    if not is_vacant(out):
        kind = kind_of(out)
        problem = "already exists and is not empty" if kind == "a folder" else f"is {kind}, not a folder"
        raise CaptionlessError(f"{out} {problem}. Choose another folder for the encoder.")
    texts = image_texts(folder) if texts is None else texts
    if missing := missing_words([*texts.values()]):
        raise CaptionlessError(
            f"{missing} Name files or sub-folders by what they show, put a .txt file with a text beside each image, or "
            "sort the images into sub-folders and train with `classes=True`, which needs no encoder."
        )
    reading = _Reading(background)
    found = read_arrays(folder, (), background=background, visitor=reading, progress=progress)
    reading.finish()
    used = (found.images[row] for row in found.unique if not is_held_out(found.digests[row], hold_out))
    chosen = sorted(used, key=lambda image: image.digest)[:MAX_IMAGES]
    known = [texts.get(image.name, "") for image in chosen]
    blocks = [torch.stack(parts) for parts in zip(*(reading.features[reading.key(one)] for one in chosen), strict=True)]
    quality = _measure(blocks, known)
    _write(out, reading.tower, _fit(blocks, known), [image.name for image in chosen], known, quality)
    encoder = NameEncoder(str(out), out.absolute())
    _cache_vectors(encoder, reading.features, cache_folder())
    return encoder, quality


class _Reading(EncodingVisitor):
    """Computes the features of every image of a folder."""

    def __init__(self, background: str) -> None:
        self._bundled = load_encoder(BUNDLED)
        super().__init__(self._bundled.image_size, background, encoder_batch_size("cpu"))
        self.tower, self.features = self._bundled.model.vision_model, dict[str, tuple[Tensor, ...]]()

    def needs_pixels(self, image: ImageFile) -> bool:
        """Return whether the features of an image have not been computed."""
        return self.key(image) not in self.features

    @torch.no_grad()
    def encode(self, keys: Sequence[str], images: Sequence[Image.Image]) -> None:
        """Compute the features of images."""
        pixels = self._bundled.image_processor(images=images, return_tensors="pt")["pixel_values"]
        self.features.update(zip(keys, zip(*image_features(self.tower, pixels), strict=True), strict=True))


def missing_words(texts: Sequence[str]) -> str:
    """Return why no encoder can be learned from images with these texts; empty if one can."""
    worded = sum(bool(text) for text in texts)
    if len(texts) < MIN_IMAGES:
        why = f"there are {len(texts)}, and at least {MIN_IMAGES} are needed"
    elif worded < len(texts) / 2:
        why = f"of {len(texts):,} names, {worded:,} have words, and at least half must"
    elif len(set(texts) - {""}) < 2:
        why = "all have the same words"
    else:
        return ""
    return f"No encoder can be learned from the names of the images: {why}."


@dataclass(frozen=True)
class _Fit:
    head: dict[str, Tensor]  # of the image side
    pieces: dict[str, float]
    text: dict[str, Tensor]


def _fit(blocks: Sequence[Tensor], texts: Sequence[str]) -> _Fit:
    """Fit both sides to images, given as blocks of features (n, f_i), and their texts."""
    pieces = choose_pieces(texts)
    matrix = piece_matrix(texts, pieces)
    centred = (matrix - matrix.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    kept = min(MAX_WIDTH, int((values > 1e-6 * values[-1]).sum()))
    basis = (centred.T @ (vectors[:, -kept:] / values[-kept:].sqrt())).float()
    target = (centred.float() @ basis).double()
    shift = torch.cat([block.mean(0) for block in blocks])
    *levels, colours = blocks
    # Every block counts the same. Channels that hardly vary are not blown up, and pixels keep their relative variances:
    # those of plain borders mean little.
    scale = torch.cat([(block.std(0) + 0.05 * block.std(0).mean()) * block.shape[1] ** 0.5 for block in levels])
    scale = torch.cat([scale, colours.var(0).sum().sqrt().clamp_min(1e-6).expand(colours.shape[1])])
    x = ((torch.cat([*blocks], 1) - shift) / scale).double()
    values, vectors = torch.linalg.eigh(x @ x.T)
    components = x.T @ (vectors / values.clamp_min(1e-12).sqrt())[:, -PROJECTED:]
    projection = (components / scale.double()[:, None]).float().half().float()
    # Half precision is what is stored, so the weights are fitted to centres in half precision.
    centres = ((torch.cat([*blocks], 1) - shift) @ projection).half().float()
    gamma = 1 / torch.cdist(centres, centres).square().median().clamp_min(1e-6).reshape(1)
    kernel = gaussian_kernel(centres, centres, gamma).double()
    weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(kernel), dtype=torch.double), target).float()
    head = {"shift": shift, "projection": projection, "centres": centres, "gamma": gamma, "weights": weights}
    return _Fit(head, pieces, {"text_projection": basis, "text_shift": matrix.mean(0) @ basis})


def _measure(blocks: Sequence[Tensor], texts: Sequence[str]) -> NameQuality:
    """Measure an encoder learned from four fifths of the images on the first fifth; images are in random order."""
    first = torch.arange(len(texts)) < SHARE_HELD_OUT * len(texts)
    aside = first & torch.tensor([bool(text) for text in texts])
    if int(aside.sum()) <= 1:
        return NameQuality(int(aside.sum()), 0.0, _SCALES[1])
    own_texts, outside = ([text for text, one in zip(texts, side, strict=True) if one] for side in (aside, ~first))
    fit = _fit([block[~first] for block in blocks], outside)
    images = NameImageSide(torch.nn.Identity(), fit.head).regress(torch.cat([block[aside] for block in blocks], 1))
    words = piece_matrix(own_texts, fit.pieces) @ fit.text["text_projection"] - fit.text["text_shift"]
    cosines = torch.nn.functional.normalize(words) @ torch.nn.functional.normalize(images).T
    recall = (cosines > cosines.diagonal()[:, None]).sum(1) < RANK
    own = torch.arange(len(cosines))
    losses = [float(torch.nn.functional.cross_entropy(scale * cosines, own)) for scale in _SCALES]
    return NameQuality(len(own), float(recall.float().mean()), _SCALES[losses.index(min(losses))])


def _write(
    out: Path, tower: torch.nn.Module, fit: _Fit, names: Sequence[str], texts: Sequence[str], quality: NameQuality
) -> None:
    """Write the files of the encoder to the folder ``out``, all or none."""
    with atomic_folder(out) as temporary:
        weights = {f"tower.{name}": one for name, one in tower.state_dict().items() if one.is_floating_point()}
        precise = {"shift", "gamma", "text_shift"}
        tensors = {
            name: one.float() if name in precise else one.half()
            for name, one in (weights | fit.head | fit.text).items()
        }
        save_tensors(temporary / "model.safetensors", tensors)
        config = {
            "format": 1,
            "model_type": NAME_ENCODER,
            "images": len(names),
            "held_out": quality.images,
            "recall_at_10": round(quality.recall, 4),
            "logit_scale": quality.logit_scale,
            "vision_config": json.loads((BUNDLED_FOLDER / "config.json").read_text(encoding="utf-8"))["vision_config"],
        }
        for name, content in (("config.json", config), ("tokenizer.json", {"pieces": fit.pieces})):
            write_text(temporary / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        shutil.copyfile(BUNDLED_FOLDER / "preprocessor_config.json", temporary / "preprocessor_config.json")
        kinds = Counter(word for name in names for word in name_words(name.rpartition("/")[0]) or name_words(name)[-1:])
        words = {word for text in texts for word in split_words(text)}
        # Singular forms let "swords" name a "sword", and the other way round.
        subjects = words.union(*(singulars(word) for word in words)) - set(_FUNCTION_WORDS.split())
        common = [kind for kind, _ in kinds.most_common(12)]
        write_vocabulary(temporary, "things", common, subjects, words | set(_FUNCTION_WORDS.split()))


def _cache_vectors(encoder: NameEncoder, features: Mapping[str, tuple[Tensor, ...]], folder: Path) -> None:
    """Store the vectors of all images in the cache, so that `embed` need not compute their features again."""
    cache = VectorCache(folder, encoder.digest)
    for part in batches([*features.items()], 512):
        vectors = torch.nn.functional.normalize(encoder.model.regress(torch.stack([torch.cat(row) for _, row in part])))
        for (key, _), vector in zip(part, np.asarray(vectors), strict=True):
            cache.add(key, vector)
    cache.flush()
