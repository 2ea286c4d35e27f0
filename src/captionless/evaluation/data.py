"""Read the images that a model is evaluated on, and split them into training images and held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.config import model_folder
from captionless.checkpoints.image_list import listed_labels
from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.labels import find_labels, normalise_label
from captionless.encoders.embeddings import EmbeddedImages, embed
from captionless.errors import shorten
from captionless.evaluation.lineage import seen_digests, training_images
from captionless.generation.generator import Generator
from captionless.progress import Progress

SPLITS = frozenset(["train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"])
"""Common folder names of data set splits, which are not used as labels."""


@dataclass(frozen=True)
class ImageSet:
    """The images of a folder with their conditions and labels.

    Args:
        names: paths of the n images relative to the folder.
        digests: content hashes of the images.
        pixels: the images at the model's size, uint8 (n, channels, size, size).
        conditions: the model's condition for each image, (n, d): image vectors, or one-hot classes, with a row of zeros
            for an image that does not belong to a class of the model.
        labels: labels of the images; None for an image without a label.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: Tensor
    conditions: Tensor
    labels: tuple[str | None, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def take(self, index: Sequence[int]) -> ImageSet:
        """Return the images at the given indices."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        names, digests = tuple(self.names[i] for i in index), tuple(self.digests[i] for i in index)
        labels = tuple(self.labels[i] for i in index)
        return ImageSet(names, digests, self.pixels[rows], self.conditions[rows], labels)


@dataclass(frozen=True)
class EvaluationData:
    """The images of a folder, split into those that one model was trained on and all others.

    Args:
        seen: images that the model, or a model it was initialised from, was trained on.
        held_out: all other images.
        everything: all images of the folder.
        trained: the model's own training images, see ``training_images``; empty if they are not recorded.
        unrecorded: models whose training images are not recorded; these images count as held out.
    """

    seen: ImageSet
    held_out: ImageSet
    everything: ImageSet
    trained: Mapping[str, str]
    unrecorded: tuple[str, ...] = ()

    @property
    def trained_on(self) -> int:
        """Number of images that the model itself was trained on; 0 if they are not recorded."""
        return len(set(self.trained.values()))

    @property
    def found(self) -> int:
        """Number of the model's own training images that are in ``seen``."""
        return len({self.trained[digest] for digest in self.seen.digests if digest in self.trained})


def load_evaluation_data(
    data: str | Path,
    generator: Generator,
    size: int,
    progress: Progress,
    labels: str | Path | None = None,
    cache: dict[object, ImageSet] | None = None,
) -> EvaluationData:
    """Read a folder in the model's input format and split it into seen and held-out images.

    Args:
        data: the folder of images.
        generator: the model.
        size: side of its images, in pixels.
        progress: receives messages and progress updates.
        labels: the path of a table of labels; None uses the names of sub-folders.
        cache: images already read for other models, by size, channels and encoder; new images are added.

    Raises:
        CaptionlessError: the folder cannot be read or has no usable images, the table of labels is invalid, or the
            model's encoder is not found.
    """
    config, name = generator.model.config, generator.model.name
    cache = {} if cache is None else cache
    # A class-conditional model uses the labels that were recorded during training.
    key = (size, config.image_channels, config.encoder.digest if config.encoder else name)
    if key not in cache:
        images = _read_images(data, generator, size, progress, labels)
        recorded = listed_labels(model_folder(name)) if labels is None else {}
        cache[key] = images if config.encoder else _with_classes(images, generator, recorded)
    everything = cache[key]
    seen, unrecorded = seen_digests(name)
    known = [i for i, digest in enumerate(everything.digests) if digest in seen]
    new = [i for i, digest in enumerate(everything.digests) if digest not in seen]
    return EvaluationData(everything.take(known), everything.take(new), everything, training_images(name), unrecorded)


def _read_images(
    data: str | Path, generator: Generator, size: int, progress: Progress, labels: str | Path | None
) -> ImageSet:
    """Read images and labels without duplicates; conditions are image vectors, or empty without an encoder."""
    config = generator.model.config
    grey, background = config.image_channels == 1, config.training.background
    found: ImageArrays
    if config.encoder:
        found = embed(data, generator.encoder, sizes=(size,), grey=grey, background=background, progress=progress)
    else:
        found = read_arrays(data, (size,), grey=grey, background=background, progress=progress)
    kept = found.unique
    progress.say(f"Found {len(kept):,} distinct images; {len(found.skipped):,} files were skipped.")
    for line in shorten((f"skipped {one.name}: {one.reason}" for one in found.skipped), 5):
        progress.say(f"  {line}")
    names, digests = tuple(found.names[i] for i in kept), tuple(found.digests[i] for i in kept)
    by_name = folder_labels(names) if labels is None else find_labels(data, names, str(labels)).by_name
    pixels = torch.from_numpy(found.array(size, kept)).permute(0, 3, 1, 2).contiguous()
    vectors = torch.from_numpy(found.vectors[kept]).float() if isinstance(found, EmbeddedImages) else None
    conditions = torch.empty(len(kept), 0) if vectors is None else vectors
    return ImageSet(names, digests, pixels, conditions, tuple(by_name.get(name) for name in names))


def _with_classes(images: ImageSet, generator: Generator, recorded: Mapping[str, str]) -> ImageSet:
    """Return the images with one-hot classes as conditions; labels recorded by the model take precedence."""
    labels = tuple(recorded.get(digest) or name for digest, name in zip(images.digests, images.labels, strict=True))
    conditions = torch.tensor([[label == name for name in generator.classes] for label in labels]).float()
    return replace(images, conditions=conditions, labels=labels)


def folder_labels(names: Sequence[str]) -> dict[str, str]:
    """Return the label of each image that has one: the name of the top-level sub-folder, ignoring data set splits.

    Outer folders are ignored, and the folders inside them used as labels, if there is only one outer folder, if the
    outer folders are named like splits (``train``, ``val``), or if all of them contain the same sub-folders.
    """
    folders = {name: name.split("/")[:-1] for name in names}
    while _are_splits(list(folders.values())):
        folders = {name: inner[1:] for name, inner in folders.items()}
    labels = {name: normalise_label(outer[0]) for name, outer in folders.items() if outer}
    return {name: label for name, label in labels.items() if label}


def _are_splits(paths: Sequence[Sequence[str]]) -> bool:
    """Return whether the outermost folders are data set splits rather than labels."""
    if any(len(folders) < 2 for folders in paths):
        return False
    inside: dict[str, set[str]] = {}
    for folders in paths:
        inside.setdefault(folders[0], set()).add(folders[1])
    kinds = list(inside.values())
    alike = len(kinds) > 1 and len(kinds[0]) > 1 and all(kind == kinds[0] for kind in kinds)
    return len(kinds) == 1 or alike or {name.casefold() for name in inside} <= SPLITS
