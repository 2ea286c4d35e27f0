"""A folder of pictures → one image vector a picture, computed once and then remembered."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from captionless.errors import CaptionlessError
from captionless.pictures import (
    Picture,
    Pixels,
    Skipped,
    find_duplicates,
    find_pictures,
    read_folder,
    relative_name,
)
from captionless.vector_cache import VectorCache, Vectors, cache_folder
from captionless.vector_csv import match_names, read_csv, write_csv

__all__ = [
    "Embedded",
    "ImageEncoder",
    "VectorCache",
    "cache_folder",
    "embed",
    "read_csv",
    "write_csv",
]

BATCH = 64
"""Pictures encoded together."""
FLUSH_EVERY = 2000
"""New vectors after which they are written to the cache."""

Progress = Callable[[int, int], object]


class ImageEncoder(Protocol):
    """The picture side of an encoder: what `embed` needs of it."""

    @property
    def name(self) -> str:
        """What the person called it."""

    @property
    def digest(self) -> str:
        """Hash of its content, part of the cache's key."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    @property
    def image_size(self) -> int:
        """Side of the pictures it looks at, in pixels."""

    def encode_images(self, images: Sequence[Image.Image]) -> Any:
        """A vector for each picture: a tensor or array (n, width)."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """The usable pictures of a folder with their vectors, in the order of `find_pictures`.

    Args:
        entries: every file of the folder: pictures, without their pixels, and what was skipped.
        vectors: float32 (n, width), one for each picture.
        squares: for each size asked for, uint8 (n, size, size, 3), or (n, size, size, 1) in grey.
        computed: how many vectors were computed now; the others were there already.
    """

    entries: list[Picture | Skipped]
    vectors: Vectors
    squares: dict[int, Pixels]
    computed: int

    @cached_property
    def pictures(self) -> list[Picture]:
        """The n usable pictures, without their pixels."""
        return [entry for entry in self.entries if isinstance(entry, Picture)]

    @property
    def skipped(self) -> list[Skipped]:
        """The files that gave no picture."""
        return [entry for entry in self.entries if isinstance(entry, Skipped)]

    @property
    def names(self) -> list[str]:
        """Paths relative to the folder, one for each picture."""
        return [picture.name for picture in self.pictures]

    @property
    def digests(self) -> list[str]:
        """Content hashes, one for each picture."""
        return [picture.digest for picture in self.pictures]

    @property
    def duplicates(self) -> list[list[str]]:
        """Names of pictures with the same content, together; each of them has its own row."""
        return find_duplicates(self.pictures)


def embed(
    folder: str | Path,
    encoder: ImageEncoder,
    *,
    sizes: Sequence[int] = (),
    grey: bool = False,
    given: Mapping[str, Vectors] | None = None,
    cache: VectorCache | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Embedded:
    """Read a folder once: its pictures as squares, and their vectors, from the cache or else from the encoder.

    The encoder is shown each picture's centre square in colour, in the picture's own resolution up to twice
    what the encoder looks at, so that the encoder's own resizing decides. New vectors are written to the cache
    every `FLUSH_EVERY` pictures and at the end, also when the end is an interruption.

    Args:
        folder: searched with its sub-folders.
        encoder: gives the vectors.
        sizes: sides of the squares to make of each picture, in pixels.
        grey: make those (size, size, 1).
        given: vectors made earlier, by path (see `read_csv`), instead of the encoder's and the cache's. The paths
            may be relative to the folder, absolute, or plain file names where that is unambiguous; one that
            leads to no picture is passed over with a warning. Vectors of another length are scaled to 1.
        cache: where vectors are remembered; by default in `cache_folder`.
        workers: decoding processes, see `captionless.pictures.read_folder`.
        on_progress: called after each file with how many are done and how many there are.

    Raises:
        CaptionlessError: a wrong folder or one without usable pictures; an encoder that gives unusable vectors;
            a cache that cannot be written; pictures without a given vector (the message names some).
    """
    files = find_pictures(folder)
    rows = _Rows(len(files), encoder.width, sizes, grey)
    full = 0 if given is not None else 2 * encoder.image_size
    found = read_folder(folder, sizes, grey=grey, full=full, workers=workers, files=files)
    with closing(found):
        watched = _watched(found, len(files), on_progress)
        if given is not None:
            computed = 0
            _look_up(watched, rows, given, folder, files)
        else:
            computed = _compute(watched, rows, encoder, cache)
    return rows.result(computed)


class _Rows:
    """The rows of an `Embedded` under construction. Their arrays are taken at once; the system gives memory
    only to the rows that are written.
    """

    def __init__(self, most: int, width: int, sizes: Sequence[int], grey: bool) -> None:
        self.count = 0
        self.entries: list[Picture | Skipped] = []
        try:
            self.vectors: Vectors = np.empty((most, width), np.float32)
            self.squares = {size: np.empty((most, size, size, 1 if grey else 3), np.uint8) for size in sizes}
        except MemoryError as error:
            raise CaptionlessError(
                f"{most:,} pictures do not fit into memory at sizes {[*sizes]}. Choose a smaller size or folder."
            ) from error

    def add(self, entry: Picture | Skipped) -> int:
        """Take an entry and a picture's squares; its row, whose vector is still to be set, or -1."""
        if isinstance(entry, Skipped):
            self.entries.append(entry)
            return -1
        for size, square in entry.squares.items():
            self.squares[size][self.count] = square
        self.entries.append(replace(entry, squares={}, full=None))
        self.count += 1
        return self.count - 1

    def result(self, computed: int) -> Embedded:
        squares = {size: pixels[: self.count] for size, pixels in self.squares.items()}
        return Embedded(self.entries, self.vectors[: self.count], squares, computed)


def _watched(
    found: Iterator[Picture | Skipped], total: int, on_progress: Progress | None
) -> Iterator[Picture | Skipped]:
    for done, entry in enumerate(found, start=1):
        yield entry
        if on_progress:
            on_progress(done, total)


def _compute(found: Iterator[Picture | Skipped], rows: _Rows, encoder: ImageEncoder, cache: VectorCache | None) -> int:
    """Set each row's vector from the cache, or else from the encoder; how many the encoder computed."""
    if cache is None:
        cache = VectorCache(cache_folder(), encoder.digest, encoder.name)
    if cache.encoder_digest != encoder.digest:
        raise ValueError(f"the cache is of the encoder {cache.encoder_digest}, not of {encoder.digest}")
    row_of: dict[str, int] = {}
    copies: list[tuple[int, int]] = []
    queue: list[tuple[int, Picture]] = []
    computed = 0
    try:
        for entry in found:
            row = rows.add(entry)
            if isinstance(entry, Skipped):
                continue
            if (first := row_of.setdefault(entry.digest, row)) != row:
                copies.append((row, first))
            elif (known := cache.get(entry.digest)) is not None and len(known) == encoder.width:
                rows.vectors[row] = known
            else:
                queue.append((row, entry))
            if len(queue) == BATCH:
                computed += _encode(queue, rows, encoder, cache)
        computed += _encode(queue, rows, encoder, cache)
    finally:
        cache.flush()
    for row, first in copies:
        rows.vectors[row] = rows.vectors[first]
    return computed


def _encode(queue: list[tuple[int, Picture]], rows: _Rows, encoder: ImageEncoder, cache: VectorCache) -> int:
    """Encode the pictures of the queue and empty it; how many there were."""
    if not queue:
        return 0
    images = [Image.fromarray(picture.full) for _, picture in queue if picture.full is not None]
    result = encoder.encode_images(images)
    if hasattr(result, "detach"):  # a tensor, perhaps of another device or precision
        result = result.detach().float().cpu()
    vectors = np.asarray(result, dtype=np.float32)
    if vectors.shape != (len(queue), encoder.width) or not np.isfinite(vectors).all():
        raise CaptionlessError(
            f"the encoder {encoder.name} gave unusable vectors (shape {vectors.shape}, or not finite) for "
            f"{queue[0][1].name} and what follows it. Use another encoder."
        )
    for (row, picture), vector in zip(queue, vectors, strict=True):
        rows.vectors[row] = vector
        cache.add(picture.digest, picture.name, vector)
    if cache.pending >= FLUSH_EVERY:
        cache.flush()
    count = len(queue)
    queue.clear()
    return count


def _look_up(
    found: Iterator[Picture | Skipped],
    rows: _Rows,
    given: Mapping[str, Vectors],
    folder: str | Path,
    files: Sequence[Path],
) -> None:
    """Set each row's vector from the given ones."""
    root = Path(os.path.abspath(folder))
    keys = match_names([relative_name(file, root) for file in files], given, root)
    missing: list[str] = []
    for entry in found:
        row = rows.add(entry)
        if isinstance(entry, Picture):
            if key := keys.get(entry.name):
                rows.vectors[row] = _unit(given[key], key, rows.vectors.shape[1])
            else:
                missing.append(entry.name)
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise CaptionlessError(
            f"{len(missing)} of the pictures of {folder} have no given vector: {some}. Add a line for each, with "
            "its path as it is written here, or let the encoder embed the folder."
        )
    if unused := given.keys() - set(keys.values()):
        warnings.warn(
            f"{len(unused)} of the given vectors fit no picture of {folder}, such as {min(unused)}", stacklevel=3
        )


def _unit(vector: Vectors, name: str, width: int) -> Vectors:
    """The vector with length 1, untouched where that is (nearly) so."""
    length = float(np.linalg.norm(vector))
    if len(vector) != width:
        raise CaptionlessError(
            f"the given vector of {name} has {len(vector)} numbers, the encoder's have {width}. Name the encoder that "
            "made the vectors."
        )
    if not length > 0:
        raise CaptionlessError(f"the given vector of {name} is all zeros. Embed that picture again.")
    return vector if abs(length - 1) < 1e-3 else (vector / length).astype(np.float32)
