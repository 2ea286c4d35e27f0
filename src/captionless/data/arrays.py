"""Read a folder of images into arrays, one for each image size."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from captionless.data.cache import cache_folder, require_space
from captionless.data.decode import BACKGROUND
from captionless.data.file_table import FileTable
from captionless.data.folder import find_images, source_root
from captionless.data.image_cache import ImageCache
from captionless.data.images import ImageFile, Pixels, SkippedFile, decode_files, require_usable
from captionless.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """The usable images of a folder as arrays, in the order of `find_images`."""

    entries: list[ImageFile | SkippedFile]  # one per file of the folder; images have no pixels here
    sizes: tuple[int, ...]
    grey: bool
    cache: ImageCache
    progress: Progress

    @cached_property
    def pixels(self) -> dict[int, Pixels]:
        """By size, the n usable images, uint8 (n, size, size, 3), or (n, size, size, 1) in grey; memory-mapped."""
        return {size: self.array(size) for size in self.sizes}

    def array(self, size: int, rows: Sequence[int] | None = None) -> Pixels:
        """Return the array of the images with the given row indices, or of all images; see ``pixels``."""
        images = self.images if rows is None else [self.images[row] for row in rows]
        return self.cache.array(images, size, grey=self.grey, advance=self.progress.advance)

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

    @cached_property
    def digests(self) -> list[str]:
        """Content hashes, in row order."""
        return [image.digest for image in self.images]

    @property
    def duplicates(self) -> list[list[str]]:
        """Names of identical images, grouped by content; each duplicate keeps its own row."""
        groups: dict[str, list[str]] = {}
        for row, digest in enumerate(self.digests):
            if (first := self._first[digest]) != row:
                groups.setdefault(digest, [self.names[first]]).append(self.names[row])
        return list(groups.values())

    @property
    def unique(self) -> list[int]:
        """Row indices in ascending order, without duplicates: only the first of identical images is included."""
        return list(self._first.values())

    @cached_property
    def _first(self) -> dict[str, int]:
        """The first row with each content hash, in ascending order of rows."""
        first: dict[str, int] = {}
        for row, digest in enumerate(self.digests):
            first.setdefault(digest, row)
        return first


class Visitor:
    """Sees every usable image while a folder is read; subclasses do something with it."""

    full = 0
    """Maximum side of ``ImageFile.full`` in pixels; 0 if the visitor does not need it."""

    def needs_pixels(self, image: ImageFile) -> bool:
        """Return whether an image must be decoded although its file is known."""
        return False

    def visit(self, image: ImageFile) -> str:
        """Look at an image, in the order of `find_images`; a reason that is returned makes it a skipped file."""
        return ""


def read_arrays(
    folder: str | Path,
    sizes: Sequence[int],
    *,
    grey: bool = False,
    background: str = BACKGROUND,
    verify: bool = False,
    visitor: Visitor | None = None,
    progress: Progress | None = None,
) -> ImageArrays:
    """Read the images of a folder, crop them to their centre square and resize them.

    Decoded images are kept in the cache folder, and files whose size and time of change are known are not read again.

    Args:
        folder: the folder of images, searched recursively, or what else `find_images` accepts.
        sizes: side lengths of the square images, in pixels.
        grey: return one channel instead of three.
        background: colour behind transparent images: a name or #rrggbb.
        verify: read every file again, to notice changes that left size and time as they were.
        visitor: receives each usable image in order.
        progress: receives the number of files read.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image, the background is not a colour, or the disk
            of the cache folder is full.
    """
    files, progress, visitor = find_images(folder), progress or Silent(), visitor or Visitor()
    root, cache = source_root(folder), cache_folder()
    images = ImageCache(cache, root, sizes, visitor.full, background)
    require_space(cache, len(files), sizes)
    table = FileTable(cache, root, verify=verify)
    known = [_enough(table.find(file), visitor) for file in files]

    def decode() -> Generator[ImageFile | SkippedFile, None, None]:
        unknown = [file for file, entry in zip(files, known, strict=True) if entry is None]
        for entry in decode_files(root, unknown, images.decoding):
            if isinstance(entry, ImageFile):
                images.keep(entry)
            table.remember(entry)
            yield entry

    entries: list[ImageFile | SkippedFile] = []
    try:
        with closing(decode()) as decoded:
            for entry in require_usable(root, (entry or next(decoded) for entry in known)):
                entries.append(_visited(entry, visitor))
                progress.advance("Reading images", len(entries), len(files))
    finally:
        images.flush()
        table.save()
    return ImageArrays(entries, tuple(sizes), grey, images, progress)


def _enough(entry: ImageFile | SkippedFile | None, visitor: Visitor) -> ImageFile | SkippedFile | None:
    """Return a known entry, or None if the visitor needs pixels as well."""
    return None if isinstance(entry, ImageFile) and visitor.needs_pixels(entry) else entry


def _visited(entry: ImageFile | SkippedFile, visitor: Visitor) -> ImageFile | SkippedFile:
    """Return an entry without pixels, after the visitor has seen it."""
    if isinstance(entry, SkippedFile):
        return entry
    if reason := visitor.visit(entry):
        return SkippedFile(entry.name, reason, entry.notes)
    return entry if entry.whole is None and entry.full is None else replace(entry, whole=None, full=None)


def normalise(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [-1, 1], the range of ``x0``."""
    return pixels.float() / 127.5 - 1


def denormalise(x: Tensor) -> Tensor:
    """Map values in [-1, 1] to uint8 pixels on the CPU; values are rounded, and clipped to the pixel range."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
