"""What a model is measured against: a folder's pictures, parted into those it has seen and those it has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from captionless.checkpoints.config import ModelConfig, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import COPY, TRAIN, read_image_list, read_labels
from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.labels import find_labels, normalise_label
from captionless.encoders.embeddings import EmbeddedImages, embed
from captionless.errors import CaptionlessError
from captionless.generation.generator import Generator

PARTS = frozenset(["train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"])
"""How the parts of a data set are called."""


class Listener(Protocol):
    """Who is told what goes on."""

    def say(self, message: str) -> None:
        """Take a sentence."""

    def progress(self, task: str, done: float, total: float) -> None:
        """Take how far a task is."""


class Silent:
    """A listener that keeps quiet."""

    def say(self, message: str) -> None:
        """Ignore it."""

    def progress(self, task: str, done: float, total: float) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class Images:
    """Some pictures of the folder.

    Args:
        names: their paths in the folder.
        digests: their content hashes.
        pixels: at the model's size, uint8 (n, channels, size, size).
        conditions: what would ask the model for them, (n, d): their image vectors, or their classes, one-hot; rows of
            zeros where a picture has no class that the model knows.
        labels: their labels; None where one has none.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: Tensor
    conditions: Tensor
    labels: tuple[str | None, ...]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def take(self, index: Sequence[int]) -> Images:
        """Return some of them."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        names, digests = tuple(self.names[i] for i in index), tuple(self.digests[i] for i in index)
        labels = tuple(self.labels[i] for i in index)
        return Images(names, digests, self.pixels[rows], self.conditions[rows], labels)


@dataclass(frozen=True)
class EvaluationData:
    """A folder as one model sees it.

    Args:
        seen: pictures that the model, or one it was begun from, was trained on.
        held_out: pictures that it was not.
        everything: all pictures of the folder.
        own: as ``own_images``: what the model's own training had, here or not; nothing where that is not recorded.
        unknown: models whose training pictures are not recorded any more; what they saw counts as held out.
        elsewhere: how many pictures of only the models it was begun from are not in the folder.
    """

    seen: Images
    held_out: Images
    everything: Images
    own: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    elsewhere: int = 0

    @property
    def trained_on(self) -> int:
        """How many pictures the model's own training had; 0 where that is not recorded."""
        return len(set(self.own.values()))

    @property
    def found(self) -> int:
        """How many of those are among ``seen``."""
        return len({self.own[digest] for digest in self.seen.digests if digest in self.own})


def ancestry(model: str | Path) -> list[tuple[str, ModelConfig | None]]:
    """Return a model and those it was begun from, in that order: names, and configs where they are still there.

    A model whose pictures are enlarged counts among them.
    """
    found: list[tuple[str, ModelConfig | None]] = []
    waiting, visited = [str(model)], set[Path]()
    while waiting:
        name = waiting.pop()
        folder = model_folder(name).resolve()
        if folder in visited:
            continue
        visited.add(folder)
        try:
            config = load_config(folder)
        except CaptionlessError:
            config = None
        found.append((name, config))
        begun = config.training.initialised_from if config else None
        waiting += [begun] if begun else []
        waiting += [str(base_folder(folder))] if config and config.base_size else []
    return found


def seen_digests(model: str | Path) -> tuple[set[str], tuple[str, ...]]:
    """Return the content hashes of all pictures that a model and those it was begun from were trained on.

    Returns:
        The hashes, and the models among them that do not record theirs, or are gone.
    """
    rows = {name: read_image_list(model_folder(name)) for name, _ in ancestry(model)}
    seen = {digest for known in rows.values() for _, digest, role in known if role in (TRAIN, COPY)}
    return seen, tuple(name for name, known in rows.items() if not known)


def own_images(model: str | Path) -> dict[str, str]:
    """Return what a model itself was trained on: for each file's content hash, that of the picture that it shows.

    The two differ for a copy of a picture (the same one in other bytes). The model whose pictures it enlarges is a part
    of it.
    """
    folder = model_folder(model)
    return _trained_in(base_folder(folder)) | _trained_in(folder)


def _trained_in(folder: Path) -> dict[str, str]:
    rows = read_image_list(folder)
    trained = {name: digest for name, digest, role in rows if role == TRAIN}
    own = {digest: digest for digest in trained.values()}
    return own | {digest: trained.get(name, digest) for name, digest, role in rows if role == COPY}


def teachers(model: str | Path) -> set[str]:
    """Return the content hashes of the encoders that a model and those it was begun from were trained with."""
    return {config.encoder.digest for _, config in ancestry(model) if config and config.encoder}


def gather(
    data: str | Path,
    generator: Generator,
    listener: Listener,
    labels: str | Path | None = None,
    cache: dict[object, Images] | None = None,
) -> EvaluationData:
    """Read the folder as the model sees pictures, each of a set of identical ones once.

    Args:
        data: the folder.
        generator: the model.
        listener: whom to tell.
        labels: a table of labels; None takes the sub-folders.
        cache: what was read for other models of the same make.

    Raises:
        CaptionlessError: a wrong folder, or one without usable pictures; a wrong table; the model's encoder is
            not found.
    """
    config, name = generator.model.config, generator.model.name
    # The labels of a model of classes are its own.
    own = config.encoder.digest if config.encoder else name
    key = (config.size, config.denoiser.channels, own)
    cache = {} if cache is None else cache
    if key not in cache:
        cache[key] = _read(data, generator, listener, labels)
    everything = cache[key]
    seen, unknown = seen_digests(name)
    known = [i for i, digest in enumerate(everything.digests) if digest in seen]
    new = [i for i, digest in enumerate(everything.digests) if digest not in seen]
    trained, elsewhere = own_images(name), _elsewhere(name, set(everything.digests))
    return EvaluationData(everything.take(known), everything.take(new), everything, trained, unknown, elsewhere)


def _elsewhere(model: str | Path, here: set[str]) -> int:
    """Return how many pictures that only the models begun from were trained on are not ``here``."""
    inherited: dict[str, str] = {}
    for ancestor, _ in ancestry(model)[1:]:
        inherited |= own_images(ancestor)
    known = {picture for digest, picture in inherited.items() if digest in here}
    return len(set(inherited.values()) - known - set(own_images(model).values()))


def read_labelled(
    data: str | Path, generator: Generator, listener: Listener, labels: str | Path | None = None
) -> Images:
    """Read the folder's pictures at the model's size, and their labels; no encoder takes part.

    Returns:
        Each of a set of identical pictures once, their conditions left empty, (n, 0).

    Raises:
        CaptionlessError: as ``gather``.
    """
    return _read(data, generator, listener, labels, conditioned=False)


def _read(
    data: str | Path,
    generator: Generator,
    listener: Listener,
    labels: str | Path | None,
    conditioned: bool = True,
) -> Images:
    config = generator.model.config
    size, grey = config.size, config.denoiser.channels == 1

    def on_progress(done: int, total: int) -> None:
        listener.progress("Reading pictures", done, total)

    found: ImageArrays
    if config.encoder and conditioned:
        found = embed(data, generator.encoder, sizes=(size,), grey=grey, on_progress=on_progress)
    else:
        found = read_arrays(data, (size,), grey=grey, on_progress=on_progress)
    _tell(found, listener.say)
    kept = np.asarray(found.unique, dtype=np.int64)
    names = [found.names[i] for i in kept]
    digests = [found.digests[i] for i in kept]
    of = folder_labels(names) if labels is None else find_labels(data, names, str(labels)).by_name
    recorded = read_labels(model_folder(generator.model.name)) if labels is None and config.classes else {}
    told = tuple(recorded.get(digest) or of.get(name) for name, digest in zip(names, digests, strict=True))
    if not conditioned:
        conditions = torch.empty(len(kept), 0)
    elif isinstance(found, EmbeddedImages):
        conditions = torch.from_numpy(found.vectors[kept]).float()
    else:
        conditions = _classes(told, config.classes)
    pixels = torch.from_numpy(found.pixels[size][kept]).permute(0, 3, 1, 2).contiguous()
    return Images(tuple(names), tuple(digests), pixels, conditions, told)


def _classes(labels: Sequence[str | None], classes: Sequence[str]) -> Tensor:
    rows = torch.zeros(len(labels), len(classes))
    for row, label in zip(rows, labels, strict=True):
        if label in classes:
            row[classes.index(label)] = 1
    return rows


def folder_labels(names: Sequence[str]) -> dict[str, str]:
    """Return the label of each picture that has one: the sub-folder it lies in, at any depth.

    Folders that are parts of a data set are no labels, and those inside them are: a single folder around all others,
    folders called like parts (``train``, ``val``), and folders that all hold the same ones.
    """
    parts = {name: name.split("/")[:-1] for name in names}
    while _are_parts(list(parts.values())):
        parts = {name: folders[1:] for name, folders in parts.items()}
    labels = {name: normalise_label(folders[0]) for name, folders in parts.items() if folders}
    return {name: label for name, label in labels.items() if label}


def _are_parts(paths: Sequence[Sequence[str]]) -> bool:
    """Tell whether the outermost of the folders that pictures lie in only part a data set."""
    if any(len(folders) < 2 for folders in paths):
        return False
    inside: dict[str, set[str]] = {}
    for folders in paths:
        inside.setdefault(folders[0], set()).add(folders[1])
    kinds = list(inside.values())
    alike = len(kinds) > 1 and len(kinds[0]) > 1 and all(kind == kinds[0] for kind in kinds)
    return len(kinds) == 1 or alike or {name.casefold() for name in inside} <= PARTS


def _tell(found: ImageArrays, say: Callable[[str], None]) -> None:
    copies = sum(len(names) - 1 for names in found.duplicates)
    same = f", {copies:,} copies counted once" if copies else ""
    say(f"Pictures: {len(found.names):,} usable, {len(found.skipped):,} files skipped{same}.")
    for skipped in found.skipped[:5]:
        say(f"  skipped {skipped.name}: {skipped.reason}")
    if len(found.skipped) > 5:
        say(f"  and {len(found.skipped) - 5:,} more.")
