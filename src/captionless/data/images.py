"""A folder of files → checked, decoded, square pictures; what was skipped, and why.

Nothing here needs torch, so that the processes that decode start fast and stay small.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionless.data.decode import (
    BACKGROUND,
    MAX_PIXELS,
    UnusableError,
    decode,
    decode_quietly,
    read_bytes,
    square,
    starts_like_image,
)
from captionless.data.folder import find_images, relative_name
from captionless.data.process_pool import map_in_processes
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

__all__ = [
    "BACKGROUND",
    "MAX_PIXELS",
    "SUFFIXES",
    "ImageFile",
    "SkippedFile",
    "count_reasons",
    "decode",
    "find_duplicates",
    "find_images",
    "held_out",
    "read_folder",
    "relative_name",
    "sample_images",
    "square",
    "write_report",
]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Endings (in lower case) of the files that are taken for pictures."""
_UNREAD = ".heic .heif .avif .jxl .jp2 .psd .svg .cr2 .cr3 .nef .arw .dng .raf .orf".split()  # noqa: SIM905
DETAIL = 256
"""A JPEG is decoded as if for a square of this size at least: smaller ones do not depend on what else is made of it."""
_FEW = 32
_MAX_WORKERS = 16
_SAMPLE_SIDE = 512
_KILLED = "ended its decoder: the process was stopped or crashed (too little memory?)"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A usable picture of a folder.

    Args:
        path: absolute.
        name: path relative to the folder, with forward slashes.
        digest: SHA-256 of the file's bytes, 64 hexadecimal digits.
        pixels: for each size asked for, the pixels, uint8 (size, size, 3), or (size, size, 1) in grey.
        notes: what its decoder complained about.
        full: where asked for, the centre square at the picture's own resolution, uint8 (side, side, 3).
    """

    path: Path
    name: str
    digest: str
    pixels: Mapping[int, Pixels] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    full: Pixels | None = None


@dataclass(frozen=True)
class SkippedFile:
    """A file that gives no picture.

    Args:
        path: absolute.
        name: path relative to the folder, with forward slashes.
        reason: for people; its kind, and after a colon where there is one the details.
        notes: what its decoder complained about.
    """

    path: Path
    name: str
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Wanted:
    """What to make of each file. Travels to the decoding processes."""

    folder: Path
    sizes: tuple[int, ...]
    grey: bool
    full: int


def read_folder(
    folder: str | Path,
    sizes: Sequence[int] = (),
    *,
    grey: bool = False,
    full: int = 0,
    workers: int | None = None,
    files: Sequence[Path] | None = None,
) -> Generator[ImageFile | SkippedFile, None, None]:
    """Decode every picture of a folder, in the order of `find_images`, holding only a few at a time.

    Args:
        folder: searched with its sub-folders.
        sizes: sides of the squares to make of each picture, in pixels.
        grey: make them (size, size, 1) instead of (size, size, 3).
        full: when not 0, also give each picture's centre square in its own resolution, for an encoder that
            does its own resizing; one of more than this many pixels a side is reduced to it.
        workers: processes that decode; 1 decodes in this one. By default one a CPU core, and none for a folder
            of a few files. A picture that kills its process costs that picture only.
        files: what `find_images` gave, when that was already called (to know how many there are).

    Raises:
        CaptionlessError: at once, for a wrong folder, size or number of workers; at the end, when the folder
            had no usable picture.
    """
    if any(size < 1 for size in (*sizes, full or 1)):
        raise CaptionlessError(f"pictures cannot have the sizes {[*sizes]}. Choose sizes of 1 or more.")
    if workers is not None and workers < 1:
        raise CaptionlessError(f"{workers} decoding processes are too few. Choose 1 or more.")
    files = find_images(folder) if files is None else files
    if workers is None:
        workers = 1 if len(files) < _FEW else min(joblib.cpu_count(), _MAX_WORKERS, len(files) // 8)
    wanted = _Wanted(Path(os.path.abspath(folder)), tuple(sizes), grey, full)
    return _read(files, wanted, workers)


def _read(files: Sequence[Path], wanted: _Wanted, workers: int) -> Generator[ImageFile | SkippedFile, None, None]:
    read = functools.partial(_read_file, wanted=wanted)
    lost = functools.partial(_skip, wanted=wanted, reason=_KILLED)
    results = map(read, files) if workers == 1 else map_in_processes(read, files, workers=workers, lost=lost)
    reasons: Counter[str] = Counter()
    usable = False
    for result in results:
        if isinstance(result, SkippedFile):
            reasons[_kind(result.reason)] += 1
        else:
            usable = True
        yield result
    if not usable:
        common = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common(3))
        found = f"none of its {len(files)} files is one ({common})" if files else "it is empty"
        raise CaptionlessError(
            f"there is no usable picture in {wanted.folder}: {found}. Give a folder with JPEG, PNG, WebP, BMP, "
            "TIFF or GIF pictures."
        )


def _skip(path: Path, *, wanted: _Wanted, reason: str, notes: tuple[str, ...] = ()) -> SkippedFile:
    return SkippedFile(path, relative_name(path, wanted.folder), reason, notes)


def _read_file(path: Path, *, wanted: _Wanted) -> ImageFile | SkippedFile:
    """Read, hash and decode one file; runs in a decoding process."""
    skip: Callable[..., SkippedFile] = functools.partial(_skip, path, wanted=wanted)
    try:
        if reason := _not_tried(path):
            return skip(reason=reason)
        data = read_bytes(path)
    except UnusableError as error:
        return skip(reason=str(error))
    image, notes = decode_quietly(data, max((*wanted.sizes, wanted.full, DETAIL)))
    if isinstance(image, str):
        return skip(reason=image, notes=notes)
    pixels = {size: _pixels(square(image, size), wanted.grey) for size in wanted.sizes}
    full = _pixels(square(image, min(*image.size, wanted.full))) if wanted.full else None
    digest = hashlib.sha256(data).hexdigest()
    return ImageFile(path, relative_name(path, wanted.folder), digest, pixels, notes, full)


def _not_tried(path: Path) -> str:
    """Why a file is not even tried; empty when it is."""
    suffix = path.suffix.lower()
    if suffix in _UNREAD:
        return f"unread format: {suffix} is not read here; convert it to JPEG or PNG"
    if suffix in SUFFIXES or path.is_dir():
        return ""
    if suffix == "":  # some programs save pictures without an ending
        try:
            with path.open("rb") as file:
                return "" if starts_like_image(file.read(8)) else "not a picture"
        except OSError:
            return ""
    return "not a picture"


def _pixels(image: Image.Image, grey: bool = False) -> Pixels:
    pixels = np.asarray(image.convert("L") if grey else image)
    return pixels[..., None] if grey else pixels


def sample_images(folder: str | Path, count: int) -> list[Image.Image]:
    """Decode up to ``count`` pictures of a folder, spread over all of it and always the same ones.

    Returns:
        Their centre squares in colour, no side above 512 pixels.

    Raises:
        CaptionlessError: a wrong folder, or one without usable pictures.
    """
    files = find_images(folder)
    files.sort(key=lambda path: hashlib.sha256(relative_name(path, folder).encode()).digest())
    images: list[Image.Image] = []
    with closing(read_folder(folder, full=_SAMPLE_SIDE, workers=1, files=files)) as found:
        for entry in found:
            if isinstance(entry, ImageFile) and entry.full is not None:
                images.append(Image.fromarray(entry.full))
                if len(images) >= count:
                    break
    return images


def find_duplicates(pictures: Iterable[ImageFile]) -> list[list[str]]:
    """Names of pictures with the same bytes: one list for each picture that is there more than once."""
    names: dict[str, list[str]] = {}
    for picture in pictures:
        names.setdefault(picture.digest, []).append(picture.name)
    return [same for same in names.values() if len(same) > 1]


def held_out(digest: str, share: float) -> bool:
    """Whether a picture belongs to the ``share`` (0 to 1) that is set aside from training.

    Follows from the content alone: identical pictures stay together, adding pictures changes nothing for the
    others, and what a share sets aside a larger share sets aside too.

    Raises:
        CaptionlessError: ``share`` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise CaptionlessError(f"cannot hold out a share of {share}. Choose between 0 and 1, such as 0.1.")
    return int(digest[:13], 16) / 16**13 < share


def count_reasons(skipped: Iterable[SkippedFile]) -> dict[str, int]:
    """How many files were skipped for each kind of reason, the commonest first."""
    return dict(Counter(_kind(one.reason) for one in skipped).most_common())


def _kind(reason: str) -> str:
    return reason.partition(":")[0]


def write_report(path: str | Path, entries: Iterable[ImageFile | SkippedFile], hold_out: float = 0.0) -> None:
    """Write what became of each file of a folder: a CSV of file, status, reason and notes.

    Status is ``used``, ``held out`` (by `held_out` with the share ``hold_out``), ``duplicate`` (of an earlier
    file; it counts once) or ``skipped``.

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
                status, reason = "held out" if held_out(entry.digest, hold_out) else "used", ""
            writer.writerow((entry.name, status, reason, "; ".join(entry.notes)))
