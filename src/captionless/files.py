"""Write files atomically: after a crash, a file has either its old or its new content, never a part of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captionless.errors import CaptionlessError

# The umask can only be read by setting it; done once at import, before other threads could be affected.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it atomically replaces ``path``.

    On any error the temporary file is removed and ``path`` is left unchanged.

    Raises:
        CaptionlessError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp creates private files (mode 600); outputs get the usual permissions.
        temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it becomes ``path``, which must be missing or empty.

    On any error the temporary folder is removed.

    Raises:
        CaptionlessError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_UMASK)  # mkdtemp creates private folders
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _cannot_write(path: Path, error: OSError) -> CaptionlessError:
    return CaptionlessError(
        f"cannot write {path}: {error.strerror or error}. Free some disk space or choose another folder. No "
        "partial file was left behind."
    )


def make_folder(folder: Path) -> None:
    """Create the output folder if it does not exist, and check that it is writable.

    Raises:
        CaptionlessError: ``folder`` is a file, or cannot be written to.
    """
    if folder.is_file():
        raise CaptionlessError(f"`out={folder}` is a file, not a folder. Choose another path.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CaptionlessError(
            f"`out={folder}` cannot be written to: {error.strerror or error}. Choose another folder."
        ) from error
