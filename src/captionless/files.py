"""Writing files so that a crash leaves either the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captionless.errors import CaptionlessError

# There is no way to read the mask but to set it; done once, before there are threads that could notice.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path`` in one step.

    On any error the temporary file is removed and ``path`` stays as it was.

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
        # mkstemp makes files private to their owner; a result is an ordinary file.
        temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> CaptionlessError:
    return CaptionlessError(
        f"cannot write {path}: {error.strerror or error}. Free some space or choose another folder; nothing was "
        "half-written."
    )


def make_folder(folder: Path) -> None:
    """Create the folder that results go into, unless it exists.

    Raises:
        CaptionlessError: it is a file or cannot be written to.
    """
    if folder.is_file():
        raise CaptionlessError(f"`out` {folder} is a file. Choose a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CaptionlessError(
            f"`out` {folder} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
