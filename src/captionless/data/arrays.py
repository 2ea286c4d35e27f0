"""Read a folder of images into arrays, one for each image size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captionless.data.folder import find_images
from captionless.data.images import ImageFile, Pixels, SkippedFile, read_images
from captionless.errors import CaptionlessError
from captionless.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """The usable images of a folder as arrays, in the order of `find_images`."""

    entries: list[ImageFile | SkippedFile]  # one per file of the folder; images have no pixels here
    pixels: dict[int, Pixels]  # by size: the n usable images, uint8 (n, size, size, 3), or (n, size, size, 1) in grey

    @cached_property
    def images(self) -> list[ImageFile]:
        """The n usable images in row order, without pixels."""
        return [entry for entry in self.entries if isinstance(entry, ImageFile)]

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that were skipped."""
        return [entry for entry in self.entries if isinstance(entry, SkippedFile)]

    @cached_property
    def names(self) -> list[str]:
        """Paths relative to the folder, in row order."""
        return [image.name for image in self.images]

    @property
    def digests(self) -> list[str]:
        """Content hashes, in row order."""
        return [image.digest for image in self.images]

    @property
    def duplicates(self) -> list[list[str]]:
        """Names of identical images, grouped by content; each duplicate keeps its own row."""
        return [[self.names[row] for row in rows] for rows in self._rows.values() if len(rows) > 1]

    @property
    def unique(self) -> list[int]:
        """Row indices in ascending order, without duplicates: only the first of identical images is included."""
        return [rows[0] for rows in self._rows.values()]

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, digest in enumerate(self.digests):
            rows.setdefault(digest, []).append(row)
        return rows


def read_arrays(
    folder: str | Path,
    sizes: Sequence[int],
    *,
    grey: bool = False,
    full: int = 0,
    visit: Callable[[ImageFile], str] | None = None,
    progress: Progress | None = None,
) -> ImageArrays:
    """Read the images of a folder, crop them to their centre square and resize them.

    Args:
        folder: the folder of images, searched recursively.
        sizes: side lengths of the square images, in pixels.
        grey: return one channel instead of three.
        full: if not 0, ``visit`` also receives each image at its original resolution; see `read_images`.
        visit: called with each usable image, including its pixels, in order. If it returns a non-empty string, the
            image is skipped for that reason.
        progress: receives the number of files read.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image, or the images do not fit into memory.
    """
    files, progress = find_images(folder), progress or Silent()
    try:
        # Allocated for all files; the operating system commits memory only for the rows that are written.
        arrays = {size: np.empty((len(files), size, size, 1 if grey else 3), np.uint8) for size in sizes}
    except MemoryError as error:
        raise CaptionlessError(
            f"{len(files):,} images of {max(sizes)} x {max(sizes)} pixels do not fit into memory. Choose a smaller "
            "image size, or a folder with fewer images."
        ) from error
    entries: list[ImageFile | SkippedFile] = []
    count = 0
    with closing(read_images(folder, sizes, grey=grey, full=full, files=files)) as found:
        for entry in found:
            if isinstance(entry, SkippedFile):
                entries.append(entry)
            elif reason := visit(entry) if visit else "":
                entries.append(SkippedFile(entry.path, entry.name, reason, entry.notes))
            else:
                for size, pixels in entry.pixels.items():
                    arrays[size][count] = pixels
                entries.append(replace(entry, pixels={}, full=None))
                count += 1
            progress.advance("Reading images", len(entries), len(files))
    return ImageArrays(entries, {size: pixels[:count] for size, pixels in arrays.items()})


def normalise(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [-1, 1], the range of ``x0``."""
    return pixels.float() / 127.5 - 1


def denormalise(x: Tensor) -> Tensor:
    """Map values in [-1, 1] to uint8 pixels on the CPU; values are rounded, and clipped to the pixel range."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
