"""Read a folder of image files: check, decode and reduce each file, and report which files were skipped and why.

This module does not import torch, so that worker processes start fast and use little memory.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionless.data.crop import crop_square, is_pixel_art, reduce_whole
from captionless.data.csv_rows import write_rows
from captionless.data.decode import BACKGROUND, decode_quietly, flatten, read_bytes, rgb
from captionless.data.folder import absolute, find_images, is_system_folder, relative_name, source_root
from captionless.data.formats import FORMATS, HEAD, UnusableError, image_format
from captionless.data.process_pool import map_in_processes
from captionless.data.stored import File, StoredFile, read_ahead
from captionless.device import usable_cpus
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.paths import kind_of

DETAIL = 256
"""JPEGs are decoded in enough detail for this size, so that smaller sizes do not depend on each other."""
_FEW = 32
_MAX_WORKERS = 16
_SAMPLE_SIDE = 512
_KILLED = "crashed the decoder: its worker process crashed or was killed (out of memory?)"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class ImageFile:
    """A usable image file."""

    name: str  # path relative to the folder, with forward slashes
    digest: str  # SHA-256 of the file's bytes, 64 hexadecimal digits
    width: int  # in pixels, of the upright image; a large JPEG may have been decoded at a fraction of its size
    height: int
    transparent: bool = False  # whether a part of the image is transparent
    pixel_art: bool = False  # see ``captionless.data.crop.is_pixel_art``
    notes: tuple[str, ...] = ()  # warnings of the decoder
    whole: Pixels | None = None  # the image with its shorter side reduced, uint8 (height, width, 3)
    full: Pixels | None = None  # centre square at the original resolution, uint8 (side, side, 3)


_PASSING = ("cannot be read", "crashed the decoder", "too large", "unsupported format", "not fetched")


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was skipped."""

    name: str
    reason: str  # ``kind`` or ``kind: details``, such as ``empty file``
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of reason, without details."""
        return self.reason.partition(":")[0]

    @property
    def passing(self) -> bool:
        """Whether the reason may not hold the next time: it depends on a disk, memory or installed packages."""
        return self.kind in _PASSING


@dataclass(frozen=True)
class Decoding:
    """How images are decoded: everything that the pixels depend on besides the file."""

    side: int = 0  # shorter side of ``ImageFile.whole`` in pixels; smaller images are not enlarged. 0 leaves it out
    full: int = 0  # maximum side of ``ImageFile.full`` in pixels; 0 leaves it out
    background: str = BACKGROUND  # colour behind transparent images: a name or #rrggbb
    detail: int = DETAIL  # size for which a JPEG must be decoded in full detail


def read_images(
    folder: str | Path,
    decoding: Decoding | None = None,
    *,
    workers: int | None = None,
    files: Sequence[File] | None = None,
) -> Generator[ImageFile | SkippedFile, None, None]:
    """Decode the images of a folder in the order of `find_images`, holding only a few in memory at a time.

    Args:
        folder: the folder of images, searched recursively.
        decoding: which pixels to return; none by default. ``full`` is meant for an encoder that resizes images itself.
        workers: number of worker processes; 1 decodes in the calling process. The default is one per CPU core, or the
            calling process for a folder with few files. A file that crashes its worker is skipped.
        files: the result of `find_images`, if already available.

    Raises:
        CaptionlessError: the folder cannot be read or the background is not a colour (raised immediately), or the
            folder contains no usable image (raised at the end).
    """
    files = find_images(folder) if files is None else files
    decoding = decoding or Decoding()
    rgb(decoding.background)
    return require_usable(folder, decode_files(folder, files, decoding, workers))


def decode_files(
    folder: str | Path, files: Sequence[File], decoding: Decoding, workers: int | None = None
) -> Iterator[ImageFile | SkippedFile]:
    """Decode some files of a folder, in order; see `read_images`."""
    if workers is None:
        workers = 1 if len(files) < _FEW else min(usable_cpus(), _MAX_WORKERS, len(files) // 8)
    root = absolute(folder)
    read = functools.partial(_read_file, root, decoding)
    lost = functools.partial(_skip, root, _KILLED)
    ready = read_ahead(files)
    return map(read, ready) if workers == 1 else map_in_processes(read, ready, min(workers, len(files)), lost)


def require_usable(
    folder: str | Path, results: Iterable[ImageFile | SkippedFile]
) -> Generator[ImageFile | SkippedFile, None, None]:
    """Yield the results, and raise at the end if every file was skipped."""
    kinds: Counter[str] = Counter()
    count = 0
    for result in results:
        count += 1
        if isinstance(result, SkippedFile):
            kinds[result.kind] += 1
        yield result
    if kinds.total() == count:
        common = ", ".join(f"{kind}: {number}" for kind, number in kinds.most_common(3))
        skipped = f"all {count:,} files were" if count > 1 else "its only file was"
        found = f"{skipped} skipped ({common})" if count else "the folder is empty"
        raise CaptionlessError(
            f"there is no usable image in {source_root(folder)}: {found}. Pass a folder with images ({FORMATS})."
        )


def _skip(root: Path, reason: str, path: File, notes: tuple[str, ...] = ()) -> SkippedFile:
    return SkippedFile(relative_name(path, root), reason, notes)


def is_image(path: Path) -> bool:
    """Return whether a file begins like an image in a format that is read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return bool(image_format(file.read(HEAD)))
    except (OSError, UnusableError):
        return False


def _read_file(root: Path, decoding: Decoding, path: File) -> ImageFile | SkippedFile:
    """Read, hash and decode one file; runs in a worker process."""
    if isinstance(path, StoredFile) and path.problem:
        return _skip(root, f"cannot be read: {path.problem}", path)
    if isinstance(path, Path) and is_system_folder(path):
        return _skip(root, "system folder: left out", path)
    if isinstance(path, Path) and (kind := kind_of(path)) in ("a device", "a FIFO", "a socket"):
        return _skip(root, f"not an image: {kind}", path)  # which might never end, or never begin
    try:
        data = read_bytes(path)
    except UnusableError as error:
        return _skip(root, str(error), path)
    image, notes = decode_quietly(data, max(decoding.full, decoding.detail))
    if isinstance(image, str):
        return _skip(root, image, path, notes)
    shown, full = flatten(image, decoding.background), decoding.full
    return ImageFile(
        relative_name(path, root),
        hashlib.sha256(data).hexdigest(),
        image.width,
        image.height,
        image.mode == "RGBA",
        is_pixel_art(image),
        notes,
        np.asarray(reduce_whole(shown, decoding.side)) if decoding.side else None,
        np.asarray(crop_square(shown, min(*image.size, full))) if full else None,
    )


def sample_images(folder: str | Path, count: int, files: Sequence[File] | None = None) -> list[Image.Image]:
    """Decode a deterministic sample of at most ``count`` images from all over a folder, or of some ``files`` in it.

    Returns:
        The centre squares in RGB, at most 512 pixels per side.

    Raises:
        CaptionlessError: as in `read_images`.
    """
    found = sample_entries(folder, count, Decoding(full=_SAMPLE_SIDE), files)
    return [Image.fromarray(entry.full) for entry in found if entry.full is not None]


def sample_entries(
    folder: str | Path, count: int, decoding: Decoding | None = None, files: Sequence[File] | None = None
) -> Iterator[ImageFile]:
    """Yield a deterministic sample of at most ``count`` images; see `sample_images` and `read_images`."""
    files = list(find_images(folder) if files is None else files)
    files.sort(key=lambda path: hashlib.sha256(relative_name(path, folder).encode()).digest())
    with closing(read_images(folder, decoding, workers=1, files=files)) as found:
        yield from itertools.islice((entry for entry in found if isinstance(entry, ImageFile)), count)


def is_held_out(digest: str, share: float) -> bool:
    """Return whether an image is held out from training when a ``share`` of the images (0 to 1) is held out.

    The decision depends only on the content hash: identical images stay together, adding images does not change the
    decision for other images, and a larger share holds out a superset of a smaller share.
    """
    return int(digest[:13], 16) / 16**13 < share


def write_images_report(path: str | Path, entries: Iterable[ImageFile | SkippedFile], hold_out: float = 0.0) -> None:
    """Write a CSV with the columns ``file``, ``status``, ``reason`` and ``notes``, one row per file of a folder.

    The status is ``used``, ``held out`` (see `is_held_out`), ``duplicate`` (identical to an earlier file, so not used
    again) or ``skipped``.

    Raises:
        CaptionlessError: the report cannot be written.
    """
    first: dict[str, str] = {}
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = [("file", "status", "reason", "notes")]
        for entry in entries:
            if isinstance(entry, SkippedFile):
                status, reason = "skipped", entry.reason
            elif (original := first.setdefault(entry.digest, entry.name)) != entry.name:
                status, reason = "duplicate", f"same content as {original}"
            else:
                status, reason = "held out" if is_held_out(entry.digest, hold_out) else "used", ""
            rows.append((entry.name, status, reason, "; ".join(entry.notes)))
        write_rows(file, rows)
