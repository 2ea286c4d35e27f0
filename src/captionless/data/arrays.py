"""Read a folder of images into one array for each size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from captionless.data.folder import find_images
from captionless.data.images import ImageFile, Pixels, SkippedFile, find_duplicates, read_folder
from captionless.errors import CaptionlessError
from captionless.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """The usable images of a folder as arrays, in the order of `find_images`.

    Args:
        entries: every file of the folder: usable images, without their pixels, and skipped files.
        pixels: the images at each requested size, uint8 (n, size, size, 3), or (n, size, size, 1) in grey.
    """

    entries: list[ImageFile | SkippedFile]
    pixels: dict[int, Pixels]

    @cached_property
    def images(self) -> list[ImageFile]:
        """The n usable images, one for each row, without their pixels."""
        return [entry for entry in self.entries if isinstance(entry, ImageFile)]

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that were skipped."""
        return [entry for entry in self.entries if isinstance(entry, SkippedFile)]

    @property
    def names(self) -> list[str]:
        """Paths relative to the folder, one for each row."""
        return [image.name for image in self.images]

    @property
    def digests(self) -> list[str]:
        """Content hashes, one for each row."""
        return [image.digest for image in self.images]

    @property
    def duplicates(self) -> list[list[str]]:
        """Names of the images with identical content, grouped; each of them has its own row."""
        return find_duplicates(self.images)

    @property
    def unique(self) -> list[int]:
        """Row numbers, ascending, without copies: of images with identical content, the first."""
        first: dict[str, int] = {}
        for row, digest in enumerate(self.digests):
            first.setdefault(digest, row)
        return list(first.values())


class ArrayBuilder:
    """`ImageArrays` under construction.

    The arrays are allocated for all files at once; the operating system provides memory only for the rows written.
    """

    def __init__(self, most: int, sizes: Sequence[int], grey: bool) -> None:
        self.count = 0
        self.entries: list[ImageFile | SkippedFile] = []
        self._pixels: dict[int, Pixels] = {
            size: allocate(most, (size, size, 1 if grey else 3), np.uint8) for size in sizes
        }

    def add(self, entry: ImageFile | SkippedFile) -> int:
        """Append an entry and its pixels; return its row, or -1 for a skipped file."""
        if isinstance(entry, SkippedFile):
            self.entries.append(entry)
            return -1
        for size, pixels in entry.pixels.items():
            self._pixels[size][self.count] = pixels
        self.entries.append(replace(entry, pixels={}, full=None))
        self.count += 1
        return self.count - 1

    @property
    def pixels(self) -> dict[int, Pixels]:
        """The rows added so far, for each size."""
        return {size: pixels[: self.count] for size, pixels in self._pixels.items()}


def allocate(most: int, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array of shape (most, *shape).

    Raises:
        CaptionlessError: the array does not fit into memory.
    """
    try:
        return np.empty((most, *shape), kind)
    except MemoryError as error:
        size = " x ".join(map(str, shape))
        raise CaptionlessError(
            f"{most:,} images of {size} values each do not fit into memory. Choose a smaller image size, or a folder "
            "with fewer images."
        ) from error


def read_arrays(
    folder: str | Path,
    sizes: Sequence[int],
    *,
    grey: bool = False,
    files: Sequence[Path] | None = None,
    reject: Callable[[ImageFile], str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageArrays:
    """Read the images of a folder, cropped to their centre square and resized.

    Args:
        folder: searched with its sub-folders.
        sizes: sides of the square images, in pixels.
        grey: give one channel instead of three.
        files: the result of `find_images`, if it was already called.
        reject: returns why a usable image is not wanted, or an empty string; a rejected image counts as skipped.
        workers: decoding processes, see `read_folder`.
        progress: receives the number of files read.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image.
    """
    files = find_images(folder) if files is None else files
    arrays = ArrayBuilder(len(files), sizes, grey)
    with closing(read_folder(folder, sizes, grey=grey, workers=workers, files=files)) as found:
        for entry in tracked(found, len(files), progress):
            reason = reject(entry) if reject and isinstance(entry, ImageFile) else ""
            arrays.add(SkippedFile(entry.path, entry.name, reason, entry.notes) if reason else entry)
    return ImageArrays(arrays.entries, arrays.pixels)


def tracked(
    found: Iterator[ImageFile | SkippedFile], total: int, progress: Progress | None
) -> Iterator[ImageFile | SkippedFile]:
    """Yield the entries, and report the progress after each."""
    progress = progress or Silent()
    for done, entry in enumerate(found, start=1):
        yield entry
        progress.advance("Reading images", done, total)


def normalise(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [-1, 1], the range of ``x0``."""
    return pixels.float() / 127.5 - 1


def denormalise(x: Tensor) -> Tensor:
    """Map values in [-1, 1] to uint8 pixels on the CPU, rounded; values outside are clipped."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
