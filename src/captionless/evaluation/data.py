"""Read the folder that a model is measured against, split into images it was trained on and held-out images."""

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
"""Usual names of the folders that split a data set; they are no labels."""


@dataclass(frozen=True)
class ImageSet:
    """Images of a folder, with what is known of each.

    Args:
        names: their paths in the folder, n of them.
        digests: their content hashes.
        pixels: at the model's size, uint8 (n, channels, size, size).
        conditions: the model's condition for each image, (n, d): image vectors, or classes as one-hot rows; a row of
            zeros for an image that has none of the model's classes.
        labels: their labels; None for an image without a label.
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
        seen: images that the model, or one it was initialised from, was trained on.
        held_out: all others.
        everything: all images of the folder.
        trained: the model's own training images, see ``training_images``; empty if they are not recorded.
        unrecorded: models whose training images are not recorded; what they were trained on counts as held out.
    """

    seen: ImageSet
    held_out: ImageSet
    everything: ImageSet
    trained: Mapping[str, str]
    unrecorded: tuple[str, ...] = ()

    @property
    def trained_on(self) -> int:
        """Number of images that the model itself was trained on; 0 if that is not recorded."""
        return len(set(self.trained.values()))

    @property
    def found(self) -> int:
        """Number of the model's own training images that are in ``seen``."""
        return len({self.trained[digest] for digest in self.seen.digests if digest in self.trained})


def load_evaluation_data(
    data: str | Path,
    generator: Generator,
    progress: Progress,
    labels: str | Path | None = None,
    cache: dict[object, ImageSet] | None = None,
) -> EvaluationData:
    """Read a folder in the model's input format and split it into seen and held-out images.

    Args:
        data: the folder.
        generator: the model.
        progress: receives remarks and progress.
        labels: a table of labels; None takes the sub-folders.
        cache: images read for other models, by size, channels and encoder; used and filled.

    Raises:
        CaptionlessError: a wrong folder, or one without usable images; a wrong table; the model's encoder is not found.
    """
    config, name = generator.model.config, generator.model.name
    cache = {} if cache is None else cache
    # A class-conditional model takes the labels recorded when it was trained.
    key = (config.size, config.denoiser.channels, config.encoder.digest if config.encoder else name)
    if key not in cache:
        images = _read_images(data, generator, progress, labels)
        recorded = listed_labels(model_folder(name)) if labels is None else {}
        cache[key] = images if config.encoder else _with_classes(images, generator, recorded)
    everything = cache[key]
    seen, unrecorded = seen_digests(name)
    known = [i for i, digest in enumerate(everything.digests) if digest in seen]
    new = [i for i, digest in enumerate(everything.digests) if digest not in seen]
    return EvaluationData(everything.take(known), everything.take(new), everything, training_images(name), unrecorded)


def _read_images(data: str | Path, generator: Generator, progress: Progress, labels: str | Path | None) -> ImageSet:
    """Read images and labels, the first of each set of identical files; conditions are image vectors, or empty."""
    size, grey = generator.model.config.size, generator.model.config.denoiser.channels == 1
    found: ImageArrays
    if generator.model.config.encoder:
        found = embed(data, generator.encoder, sizes=(size,), grey=grey, progress=progress)
    else:
        found = read_arrays(data, (size,), grey=grey, progress=progress)
    kept = found.unique
    progress.say(f"Images: {len(kept):,} different ones, {len(found.skipped):,} files skipped.")
    for line in shorten((f"skipped {one.name}: {one.reason}" for one in found.skipped), 5):
        progress.say(f"  {line}")
    names, digests = tuple(found.names[i] for i in kept), tuple(found.digests[i] for i in kept)
    by_name = folder_labels(names) if labels is None else find_labels(data, names, str(labels)).by_name
    pixels = torch.from_numpy(found.pixels[size][kept]).permute(0, 3, 1, 2).contiguous()
    vectors = torch.from_numpy(found.vectors[kept]).float() if isinstance(found, EmbeddedImages) else None
    conditions = torch.empty(len(kept), 0) if vectors is None else vectors
    return ImageSet(names, digests, pixels, conditions, tuple(by_name.get(name) for name in names))


def _with_classes(images: ImageSet, generator: Generator, recorded: Mapping[str, str]) -> ImageSet:
    """Return the images with the classes of a model as conditions; labels that it recorded come before others."""
    labels = tuple(recorded.get(digest) or name for digest, name in zip(images.digests, images.labels, strict=True))
    conditions = torch.tensor([[label == name for name in generator.classes] for label in labels]).float()
    return replace(images, conditions=conditions, labels=labels)


def folder_labels(names: Sequence[str]) -> dict[str, str]:
    """Return the label of each image that has one: the sub-folder that holds it, at any depth.

    Folders that split a data set are no labels, but the folders inside them are: a single folder around all others,
    folders with names of splits (``train``, ``val``), and folders that all hold the same ones.
    """
    folders = {name: name.split("/")[:-1] for name in names}
    while _are_splits(list(folders.values())):
        folders = {name: inner[1:] for name, inner in folders.items()}
    labels = {name: normalise_label(outer[0]) for name, outer in folders.items() if outer}
    return {name: label for name, label in labels.items() if label}


def _are_splits(paths: Sequence[Sequence[str]]) -> bool:
    """Tell whether the outermost folders only split a data set."""
    if any(len(folders) < 2 for folders in paths):
        return False
    inside: dict[str, set[str]] = {}
    for folders in paths:
        inside.setdefault(folders[0], set()).add(folders[1])
    kinds = list(inside.values())
    alike = len(kinds) > 1 and len(kinds[0]) > 1 and all(kind == kinds[0] for kind in kinds)
    return len(kinds) == 1 or alike or {name.casefold() for name in inside} <= SPLITS
