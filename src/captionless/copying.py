"""Copy files over others where a file system refuses to rename them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from captionless.errors import CaptionlessError
from captionless.paths import is_vacant


def copy_over(source: Path, target: Path, flush: Callable[[Path], None]) -> None:
    """Copy a file or folder to ``target``, which on an error is as it was: the old file, nothing or an empty folder.

    Raises:
        OSError: the disk is full or fails, or a folder has content already.
        CaptionlessError: the old file could not be put back; the message names its copy.
    """
    if source.is_dir() and not is_vacant(target):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    before = _copied(target) if target.is_file() else None
    try:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
        for path in (target, *target.rglob("*")):
            flush(path)
    except BaseException:
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        elif before is None:
            with suppress(OSError):
                target.unlink()
        else:
            _put_back(before, target)
        raise
    if before is not None:
        before.unlink()


def _copied(path: Path) -> Path:
    """Return a copy of a file beside it."""
    handle, name = tempfile.mkstemp(".before", f"{path.name[:40]}.", path.parent)
    os.close(handle)
    try:
        shutil.copyfile(path, name)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _put_back(before: Path, target: Path) -> None:
    try:
        shutil.copyfile(before, target)
        before.unlink()
    except OSError as error:
        raise CaptionlessError(
            f"cannot write {target}: {error.strerror or error}. It is incomplete; its content before is in {before}.",
            code="cannot_write",
        ) from error
