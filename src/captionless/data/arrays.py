"""A folder of pictures, read once into one array of squares for each size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from captionless.data.images import FolderImage, Pixels, Skipped, find_duplicates, find_images, read_folder
from captionless.errors import CaptionlessError

Progress = Callable[[int, int], object]


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """The usable pictures of a folder, in the order of `find_images`.

    Args:
        entries: every file of the folder: pictures, without their pixels, and what was skipped.
        squares: for each size asked for, uint8 (n, size, size, 3), or (n, size, size, 1) in grey.
    """

    entries: list[FolderImage | Skipped]
    squares: dict[int, Pixels]

    @cached_property
    def pictures(self) -> list[FolderImage]:
        """The n usable pictures, without their pixels."""
        return [entry for entry in self.entries if isinstance(entry, FolderImage)]

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


class Rows:
    """`Squares` under construction. Their arrays are taken at once; the system gives memory only to the rows that
    are written.
    """

    def __init__(self, most: int, sizes: Sequence[int], grey: bool) -> None:
        self.count = 0
        self.entries: list[FolderImage | Skipped] = []
        self._arrays: dict[int, Pixels] = {
            size: rows_of(most, (size, size, 1 if grey else 3), np.uint8) for size in sizes
        }

    def add(self, entry: FolderImage | Skipped) -> int:
        """Take an entry and a picture's squares; its row, or -1 where it gives none."""
        if isinstance(entry, Skipped):
            self.entries.append(entry)
            return -1
        for size, square in entry.squares.items():
            self._arrays[size][self.count] = square
        self.entries.append(replace(entry, squares={}, full=None))
        self.count += 1
        return self.count - 1

    @property
    def squares(self) -> dict[int, Pixels]:
        """The rows that were taken so far, for each size."""
        return {size: pixels[: self.count] for size, pixels in self._arrays.items()}


def rows_of(most: int, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
    """Return an array for what is known of up to ``most`` pictures.

    Raises:
        CaptionlessError: it does not fit into memory.
    """
    try:
        return np.empty((most, *shape), kind)
    except MemoryError as error:
        size = " x ".join(map(str, shape))
        raise CaptionlessError(
            f"{most:,} pictures do not fit into memory at {size} numbers each. Choose a smaller size or folder."
        ) from error


def read_arrays(
    folder: str | Path,
    sizes: Sequence[int],
    *,
    grey: bool = False,
    files: Sequence[Path] | None = None,
    refuse: Callable[[FolderImage], str] | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> ImageArrays:
    """Read a folder of pictures as squares, and nothing else.

    Args:
        folder: searched with its sub-folders.
        sizes: sides of the squares to make of each picture, in pixels.
        grey: make those (size, size, 1).
        files: what `find_images` gave, when that was already called.
        refuse: says why a usable picture is not wanted; empty where it is. What it refuses counts as skipped.
        workers: decoding processes, see `captionless.data.images.read_folder`.
        on_progress: called after each file with how many are done and how many there are.

    Raises:
        CaptionlessError: a wrong folder, or one without usable pictures.
    """
    files = find_images(folder) if files is None else files
    rows = Rows(len(files), sizes, grey)
    with closing(read_folder(folder, sizes, grey=grey, workers=workers, files=files)) as found:
        for entry in watched(found, len(files), on_progress):
            reason = refuse(entry) if refuse and isinstance(entry, FolderImage) else ""
            rows.add(Skipped(entry.path, entry.name, reason, entry.notes) if reason else entry)
    return ImageArrays(rows.entries, rows.squares)


def watched(
    found: Iterator[FolderImage | Skipped], total: int, on_progress: Progress | None
) -> Iterator[FolderImage | Skipped]:
    """Hand the entries on, and tell how far that is."""
    for done, entry in enumerate(found, start=1):
        yield entry
        if on_progress:
            on_progress(done, total)
