"""Read a folder of image files: check, decode and crop each, and report what was skipped and why.

Nothing here imports torch, so that decoding processes start fast and stay small.
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

from captionless.data.decode import UnusableError, decode_quietly, read_bytes, square
from captionless.data.folder import find_images, relative_name
from captionless.data.process_pool import map_in_processes
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Endings (in lower case) of the files that are decoded."""
_UNSUPPORTED = ".heic .heif .avif .jxl .jp2 .psd .svg .cr2 .cr3 .nef .arw .dng .raf .orf".split()  # noqa: SIM905
# A JPEG is decoded with enough detail for this size at least, so that smaller ones do not depend on each other.
_DETAIL = 256
_FEW = 32
_MAX_WORKERS = 16
_SAMPLE_SIDE = 512
_KILLED = "ended its decoder: the process was stopped or crashed (too little memory?)"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A usable image file."""

    path: Path  # absolute
    name: str  # path relative to the folder, with forward slashes
    digest: str  # SHA-256 of the file's bytes, 64 hexadecimal digits
    pixels: Mapping[int, Pixels] = field(default_factory=dict)  # the centre square by size, uint8 (size, size, 3 or 1)
    notes: tuple[str, ...] = ()  # complaints of the decoder
    full: Pixels | None = None  # the centre square at the image's own resolution, uint8 (side, side, 3)


@dataclass(frozen=True)
class SkippedFile:
    """A file that was skipped."""

    path: Path
    name: str
    reason: str  # its kind, such as ``truncated``, or ``kind: details``
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of reason."""
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
    """Decode every image of a folder, in the order of `find_images`, with only a few in memory at a time.

    Args:
        folder: searched with its sub-folders.
        sizes: sides of the square images to make of each file, in pixels.
        grey: make them (size, size, 1) instead of (size, size, 3).
        full: when not 0, also give the centre square at the image's own resolution, for an encoder that does its own
            resizing; a square with more than this many pixels per side is reduced to it.
        workers: decoding processes; 1 decodes in this process. By default one per CPU core, or this process for a
            folder of a few files. A file that crashes its process is skipped.
        files: the result of `find_images`, if it was already called.

    Raises:
        CaptionlessError: immediately, for a wrong folder; at the end, if no file of the folder is a usable image.
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
    """Pass the results on, and raise at the end if there was no image among them."""
    kinds: Counter[str] = Counter()
    for result in results:
        if isinstance(result, SkippedFile):
            kinds[result.kind] += 1
        yield result
    if kinds.total() == len(files):
        common = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common(3))
        found = f"none of its {len(files)} files is one ({common})" if files else "it is empty"
        raise CaptionlessError(
            f"there is no usable image in {root}: {found}. Give a folder with JPEG, PNG, WebP, BMP, TIFF or GIF images."
        )


def _skip(root: Path, reason: str, path: Path, notes: tuple[str, ...] = ()) -> SkippedFile:
    return SkippedFile(path, relative_name(path, root), reason, notes)


def _read_file(root: Path, sizes: tuple[int, ...], grey: bool, full: int, path: Path) -> ImageFile | SkippedFile:
    """Read, hash and decode one file; runs in a decoding process."""
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
    pixels = {size: _pixels(square(image, size), grey) for size in sizes}
    whole = _pixels(square(image, min(*image.size, full))) if full else None
    return ImageFile(path, relative_name(path, root), hashlib.sha256(data).hexdigest(), pixels, notes, whole)


def _pixels(image: Image.Image, grey: bool = False) -> Pixels:
    pixels = np.asarray(image.convert("L") if grey else image)
    return pixels[..., None] if grey else pixels


def sample_images(folder: str | Path, count: int) -> list[Image.Image]:
    """Decode up to ``count`` images spread over all of a folder, the same ones each time.

    Returns their centre squares in colour, at most 512 pixels wide. Raises as `read_images`.
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
    """Return whether an image belongs to the ``share`` (0 to 1) that is held out from training.

    This depends on the content alone: identical images stay together, adding images changes nothing for the others,
    and a larger share holds out everything that a smaller share does.
    """
    return int(digest[:13], 16) / 16**13 < share


def write_images_report(path: str | Path, entries: Iterable[ImageFile | SkippedFile], hold_out: float = 0.0) -> None:
    """Write a CSV with file, status, reason and notes of each file of a folder.

    Status is ``used``, ``held out`` (see `is_held_out`), ``duplicate`` (of an earlier file, and counted once) or
    ``skipped``.

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
