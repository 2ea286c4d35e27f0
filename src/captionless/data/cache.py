"""Locate the cache folder, keep it below its size limit, and keep arrays in it as memory-mapped files.

Nothing in the cache is needed to be correct: what is missing or damaged is computed again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import DTypeLike, NDArray

from captionless.errors import CaptionlessError
from captionless.files import atomic_write, remark_once, sweep

LIMIT_GB = 20.0
"""Default of ``$CAPTIONLESS_CACHE_GB``, the size in 10^9 bytes above which cached images are removed."""
IMAGES, ARRAYS, FILES, SAMPLES = "images-1", "arrays-1", "files-1", "samples-1"
"""Sub-folders: decoded images, arrays made from them, what is known about files, and images that evaluations sampled.
Vectors have their own."""
_STARTED = time.time()


def cache_folder() -> Path:
    """Return the cache folder: ``$CAPTIONLESS_CACHE`` if set, or the default cache folder of the user."""
    named = os.environ.get("CAPTIONLESS_CACHE") or platformdirs.user_cache_path("captionless")
    folder = Path(os.path.expanduser(named))
    # Without a home, the name begins with "~"; no folder of this name is made in the current one.
    return Path(os.devnull, "captionless") if folder.parts[:1] == ("~",) else folder


def remark_unwritable(folder: Path, error: Exception) -> None:
    """Say once that nothing can be written to the cache."""
    reason = getattr(error.__cause__, "strerror", None) or str(error)
    remark_once(
        "cache",
        f"the cache folder {folder} cannot be written to ({reason}). What was read is kept in memory, and will be read "
        "again by the next run. Set the environment variable CAPTIONLESS_CACHE to another folder.",
    )


def require_space(cache: Path, count: int, sizes: Sequence[int]) -> None:
    """Raise a `CaptionlessError` unless the disk of the cache has room for ``count`` square images of each size."""
    there = next(folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.exists())
    needed, free = 3 * count * sum(size**2 for size in sizes), shutil.disk_usage(there).free
    if needed > free and os.access(there, os.W_OK):  # else they are kept in memory
        raise CaptionlessError(
            f"{count:,} images of {max(sizes):,} x {max(sizes):,} pixels need {needed / 1e9:,.1f} GB in the cache "
            f"folder {cache}, whose disk has {free / 1e9:,.1f} GB left. Choose a smaller image size, or set the "
            "environment variable CAPTIONLESS_CACHE to a folder on a larger disk."
        )


def touch(path: Path) -> None:
    """Mark a file of the cache as used now, so that `trim_cache` removes others first."""
    with suppress(OSError):  # removed by another process, or read-only
        os.utime(path)


def trim_cache(cache: Path) -> None:
    """Remove the least recently used images, samples and arrays of the cache while they exceed the size limit.

    Temporary files of processes that were killed are removed too.

    Files that this process has used stay, and so do vectors and all files that this library did not name.

    Raises:
        CaptionlessError: ``$CAPTIONLESS_CACHE_GB`` is not a number.
    """
    text = os.environ.get("CAPTIONLESS_CACHE_GB") or str(LIMIT_GB)
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = -1
    if not limit >= 0:  # nor NaN
        raise CaptionlessError(
            f"the environment variable CAPTIONLESS_CACHE_GB must be a number of gigabytes, not {text}. Try 20."
        )
    sweep(cache.rglob(".*.tmp"))
    found = []
    parts = (path for name in (IMAGES, SAMPLES) for path in (cache / name).glob("*/part-*.safetensors"))
    for path in (*parts, *(cache / ARRAYS).glob("*.array")):
        try:
            status = path.stat()
        except OSError:  # removed by another process
            continue
        found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        if total <= limit or used >= _STARTED:
            break
        try:
            path.unlink()
        except OSError:  # in use, on Windows
            continue
        total -= size


def mapped_array(
    cache: Path,
    key: Iterable[str],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    rows: Callable[[], Iterable[NDArray[Any]]],
) -> NDArray[Any]:
    """Map an array from a file of the cache, which is written if it is missing, truncated or altered.

    The file holds the rows followed by the SHA-256 of their bytes. Its pages belong to the operating system's file
    cache: all processes share them, and they can be dropped when memory is short.

    Args:
        cache: the cache folder.
        key: texts that together determine the content.
        shape: shape of the array; the first element is the number of rows.
        dtype: data type of the array.
        rows: returns the rows in order; called only if the file must be written.

    Returns:
        The array. Changes to it stay in this process.
    """
    name = hashlib.sha256()
    for text in chain((str(shape), np.dtype(dtype).str), key):
        name.update(text.encode() + b"\n")
    path = cache / ARRAYS / f"{name.hexdigest()[:40]}.array"
    if not shape[0]:
        return np.empty(shape, dtype)
    if not _is_intact(path, int(np.prod(shape)) * np.dtype(dtype).itemsize):
        digest = hashlib.sha256()
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                for row in rows():
                    data = np.ascontiguousarray(row, dtype).tobytes()
                    digest.update(data)
                    file.write(data)
                file.write(digest.digest())
        except CaptionlessError as error:
            if error.code != "cannot_write":
                raise
            remark_unwritable(cache, error)
            return np.stack([np.asarray(row, dtype) for row in rows()])
    touch(path)
    try:
        return np.memmap(path, dtype, "c", shape=shape)
    except FileNotFoundError:  # another process has removed it since
        return np.stack([np.asarray(row, dtype) for row in rows()])


def _is_intact(path: Path, size: int) -> bool:
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != size + digest.digest_size:
            return False
        with path.open("rb") as file:
            while size and (block := file.read(min(size, 1 << 20))):
                size -= len(block)
                digest.update(block)
            return file.read() == digest.digest()
    except OSError:
        return False
