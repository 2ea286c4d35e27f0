"""Read a folder of image files: check, decode and crop each file, and report which files were skipped and why.

This module does not import torch, so that worker processes start fast and use little memory.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import loky
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionless.data.crop import crop_square
from captionless.data.decode import UnusableError, decode_quietly, read_bytes
from captionless.data.folder import find_images, relative_name
from captionless.data.process_pool import map_in_processes
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Supported image extensions, in lower case."""
_UNSUPPORTED = ".heic .heif .avif .jxl .jp2 .psd .svg .cr2 .cr3 .nef .arw .dng .raf .orf".split()  # noqa: SIM905
# JPEGs are always decoded in enough detail for this size, so that the pixels at a smaller size do not depend on which
# other sizes are requested.
_DETAIL = 256
_FEW = 32
_MAX_WORKERS = 16
_SAMPLE_SIDE = 512
_KILLED = "crashed the decoder: its worker process crashed or was killed (out of memory?)"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A usable image file."""

    path: Path  # absolute
    name: str  # path relative to the folder, with forward slashes
    digest: str  # SHA-256 of the file's bytes, 64 hexadecimal digits
    pixels: Mapping[int, Pixels] = field(default_factory=dict)  # centre square by size, uint8 (size, size, 3 or 1)
    notes: tuple[str, ...] = ()  # warnings of the decoder
    full: Pixels | None = None  # centre square at the original resolution, uint8 (side, side, 3)


@dataclass(frozen=True)
class SkippedFile:
    """A file that was skipped."""

    path: Path
    name: str
    reason: str  # ``kind`` or ``kind: details``, such as ``empty file``
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of reason, without details."""
        return self.reason.partition(":")[0]


def read_images(
    folder: str | Path,
    sizes: Sequence[int] = (),
    *,
    grey: bool = False,
    full: int = 0,
    workers: int | None = None,
    files: Sequence[Path] | None = None,
) -> Generator[ImageFile | SkippedFile, None, None]:
    """Decode the images of a folder in the order of `find_images`, holding only a few in memory at a time.

    Args:
        folder: the folder of images, searched recursively.
        sizes: side lengths of the square images to produce from each file, in pixels.
        grey: return pixels (size, size, 1) instead of (size, size, 3).
        full: if not 0, also return the centre square at its original resolution, for an encoder that resizes images
            itself; squares with more than ``full`` pixels per side are downsampled to this size.
        workers: number of worker processes; 1 decodes in the calling process. The default is one per CPU core, or the
            calling process for a folder with few files. A file that crashes its worker is skipped.
        files: the result of `find_images`, if already available.

    Raises:
        CaptionlessError: the folder cannot be read (raised immediately), or it contains no usable image (raised at the
            end).
    """
    files = find_images(folder) if files is None else files
    if workers is None:
        workers = 1 if len(files) < _FEW else min(loky.cpu_count(), _MAX_WORKERS, len(files) // 8)
    root = Path(os.path.abspath(folder))
    read = functools.partial(_read_file, root, tuple(sizes), grey, full)
    lost = functools.partial(_skip, root, _KILLED)
    return _read(root, files, map(read, files) if workers == 1 else map_in_processes(read, files, workers, lost))


def _read(
    root: Path, files: Sequence[Path], results: Iterable[ImageFile | SkippedFile]
) -> Generator[ImageFile | SkippedFile, None, None]:
    """Yield the results, and raise at the end if every file was skipped."""
    kinds: Counter[str] = Counter()
    for result in results:
        if isinstance(result, SkippedFile):
            kinds[result.kind] += 1
        yield result
    if kinds.total() == len(files):
        common = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common(3))
        found = f"all {len(files)} files were skipped ({common})" if files else "the folder is empty"
        raise CaptionlessError(
            f"there is no usable image in {root}: {found}. Pass a folder with JPEG, PNG, WebP, BMP, TIFF or GIF images."
        )


def _skip(root: Path, reason: str, path: Path, notes: tuple[str, ...] = ()) -> SkippedFile:
    return SkippedFile(path, relative_name(path, root), reason, notes)


def _read_file(root: Path, sizes: tuple[int, ...], grey: bool, full: int, path: Path) -> ImageFile | SkippedFile:
    """Read, hash and decode one file; runs in a worker process."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and not path.is_dir():
        unsupported = f"unsupported format: {suffix}; convert it to JPEG or PNG"
        return _skip(root, unsupported if suffix in _UNSUPPORTED else "not an image", path)
    try:
        data = read_bytes(path)
    except UnusableError as error:
        return _skip(root, str(error), path)
    image, notes = decode_quietly(data, max(*sizes, full, _DETAIL))
    if isinstance(image, str):
        return _skip(root, image, path, notes)
    pixels = {size: _pixels(crop_square(image, size), grey) for size in sizes}
    whole = _pixels(crop_square(image, min(*image.size, full))) if full else None
    return ImageFile(path, relative_name(path, root), hashlib.sha256(data).hexdigest(), pixels, notes, whole)


def _pixels(image: Image.Image, grey: bool = False) -> Pixels:
    pixels = np.asarray(image.convert("L") if grey else image)
    return pixels[..., None] if grey else pixels


def sample_images(folder: str | Path, count: int) -> list[Image.Image]:
    """Decode a deterministic sample of at most ``count`` images from all over a folder.

    Returns:
        The centre squares in RGB, at most 512 pixels per side.

    Raises:
        CaptionlessError: as in `read_images`.
    """
    files = find_images(folder)
    files.sort(key=lambda path: hashlib.sha256(relative_name(path, folder).encode()).digest())
    images: list[Image.Image] = []
    with closing(read_images(folder, full=_SAMPLE_SIDE, workers=1, files=files)) as found:
        for entry in found:
            if isinstance(entry, ImageFile) and entry.full is not None:
                images.append(Image.fromarray(entry.full))
                if len(images) >= count:
                    break
    return images


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
        writer = csv.writer(file)
        writer.writerow(("file", "status", "reason", "notes"))
        for entry in entries:
            if isinstance(entry, SkippedFile):
                status, reason = "skipped", entry.reason
            elif (original := first.setdefault(entry.digest, entry.name)) != entry.name:
                status, reason = "duplicate", f"same content as {original}"
            else:
                status, reason = "held out" if is_held_out(entry.digest, hold_out) else "used", ""
            writer.writerow((entry.name, status, reason, "; ".join(entry.notes)))
