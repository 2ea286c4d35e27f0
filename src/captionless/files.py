"""Write files atomically: after a crash, a file has either its old or its new content, never a part of it.

What a path leads to is written, as every program does that opens it: a link stays a link. Anything but a file (a
device, a FIFO, a folder) is left as it is. What a file system lacks (permissions, flushing, renaming) is a remark.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from captionless.copying import copy_over
from captionless.errors import CaptionlessError
from captionless.paths import WINDOWS, kind_of

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
"""How a pointer of Git LFS begins: it stands for a file that was not fetched."""

# The umask can only be read by setting it; done once at import, before other threads could be affected.
_UMASK = os.umask(0)
os.umask(_UMASK)

REFUSED = frozenset(
    {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EXDEV}
)
"""Numbers of the errors by which a file system says that it lacks an operation."""
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-(\d{1,9})-\w+\.tmp")
_REMARKED: set[str] = set()


def remark_once(about: str, message: str) -> None:
    """Warn, once per process and subject."""
    if about not in _REMARKED:
        _REMARKED.add(about)
        warnings.warn(message, stacklevel=2)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it atomically replaces ``path``.

    On any error the temporary file is removed and ``path`` is left unchanged.

    Raises:
        CaptionlessError: ``path`` is not a file, its folder cannot be written to, or the disk is full. The code is
            ``cannot_write``.
    """
    target = require_file(path)
    with _temporary(target) as temporary:
        yield temporary
        _settle(temporary, target)
        _replace(temporary, target)
        flush(target.parent)


def write_new(paths: Iterable[Path], write: Callable[[Path], object]) -> Path:
    """Write a file atomically under the first of ``paths`` that is free, and return that path.

    Args:
        paths: paths in one folder, in the order in which to try them.
        write: writes the file to the path that it is given.

    Raises:
        CaptionlessError: as in `atomic_write`.
    """
    rest = iter(paths)
    first = next(rest)
    with _temporary(first) as temporary:
        write(temporary)
        _settle(temporary, first)
        for path in chain([first], rest):
            with suppress(FileExistsError):
                _link(temporary, path)
                break
        flush(path.parent)
    return path


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it becomes ``path``, which must be missing or empty.

    On any error the temporary folder is removed.

    Raises:
        CaptionlessError: the folder cannot be written, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    with _temporary(target, folder=True) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            flush(file)
        _settle(temporary, target, 0o777)
        if WINDOWS:  # where no folder replaces another, not even an empty one
            with suppress(OSError):
                target.rmdir()
        _replace(temporary, target)
        flush(target.parent)


def create_folder(folder: Path) -> None:
    """Create a folder unless it exists, and have the disk keep it."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        flush(one.parent)


def require_file(path: str | Path) -> Path:
    """Return the path that may be written: that of the file that ``path`` leads to, or is to become.

    Raises:
        CaptionlessError: it leads to something else, which a file would replace.
    """
    target = Path(os.path.realpath(path))
    try:
        if not stat.S_ISREG(target.lstat().st_mode):
            raise CaptionlessError(
                f"cannot write {path}: it is {kind_of(target)}, which is left as it is. Choose another path.",
                code="cannot_write",
            )
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _cannot_write(path, error) from error
    return target


def sweep(temporaries: Iterable[Path], *, locked: bool = False) -> None:
    """Remove temporary files and folders that were left behind by processes that were killed.

    Those of a process that runs on this machine stay.

    Args:
        temporaries: paths; those that this module did not name are left alone.
        locked: whether a lock keeps others from writing there, so that those of other machines go too.
    """
    with suppress(OSError):
        for path in temporaries:
            if not (found := _TEMPORARY.fullmatch(path.name)):
                continue
            here, process = found[1] == _HOST, int(found[2])
            # Containers give the same number again: a file of this process is that of another before it.
            if (here and not _is_running(process)) or (locked and (not here or process == os.getpid())):
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a temporary file or folder; an error would hide the first one."""
    with suppress(OSError):
        try:
            path.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError):  # a folder, to Linux and to other systems
            shutil.rmtree(path)


def _is_running(process: int) -> bool:
    if WINDOWS:  # where os.kill ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        pass
    return True


@contextmanager
def _temporary(target: Path, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target``, which is removed at the end if it is still there."""
    try:
        create_folder(target.parent)
        about = ".tmp", f".{target.name[:40]}.{_HOST}-{os.getpid()}-", target.parent
        if folder:
            name = tempfile.mkdtemp(*about)
        else:
            handle, name = tempfile.mkstemp(*about)
            os.close(handle)
    except OSError as error:
        raise _cannot_write(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        _remove(temporary)


def _settle(temporary: Path, target: Path, mode: int = 0o666) -> None:
    """Have the disk write a file or folder that is complete, and give it its permissions."""
    flush(temporary)
    with _remarking(target.parent, "permissions", "They are those of the file system."):
        # mkstemp makes private files (mode 600); outputs get those of what they replace, or the usual ones.
        temporary.chmod(stat.S_IMODE(target.stat().st_mode) if target.is_file() else mode & ~_UMASK)


def flush(path: Path) -> None:
    """Have the disk write what was written to a file, or which files are in a folder."""
    folder = path.is_dir()
    if folder and WINDOWS:  # which has no such operation
        return
    with _remarking(path.parent, "flushing", "After a power failure, files may be incomplete."):
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(temporary: Path, target: Path) -> None:
    try:
        _rename(temporary, target)
    except OSError as error:
        # Windows: the file is open or read-only, and who has it open would read a mixture.
        if error.errno not in REFUSED or (WINDOWS and isinstance(error, PermissionError)):
            raise
        copy_over(temporary, target, flush)
        _remark(target.parent, "renaming", "A crash during a write may leave an incomplete file.", error)


def _rename(temporary: Path, target: Path) -> None:
    """Rename a file or folder; on Windows, wait for programs that have it open, such as virus scanners."""
    for seconds in (0.01, 0.1, 1.0) if WINDOWS else ():
        with suppress(PermissionError):
            os.replace(temporary, target)
            return
        time.sleep(seconds)
    os.replace(temporary, target)


def _link(temporary: Path, path: Path) -> None:
    """Give a file a name unless the name is taken; raise ``FileExistsError`` if it is."""
    try:
        os.link(temporary, path)
    except OSError as error:  # FAT has no links
        if error.errno not in REFUSED | {errno.EMLINK}:
            raise
        path.open("xb").close()
        try:
            _replace(temporary, path)
        except BaseException:
            _remove(path)
            raise


@contextmanager
def _remarking(folder: Path, what: str, so: str) -> Iterator[None]:
    """Turn the refusal of an operation that files can do without into a remark."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        _remark(folder, what, so, error)


def _remark(folder: Path, what: str, so: str, error: OSError) -> None:
    remark_once(what, f"the file system of {folder} refuses {what} ({error.strerror}). {so}")


def _cannot_write(path: str | Path, error: OSError) -> CaptionlessError:
    return CaptionlessError(
        f"cannot write {path}: {error.strerror or error}. Free some disk space or choose another folder. No "
        "partial file was left behind.",
        code="cannot_write",
    )


def make_folder(folder: Path) -> None:
    """Create the output folder if it does not exist, and check that it is writable.

    Raises:
        CaptionlessError: ``folder`` is something else, or cannot be written to.
    """
    if (kind := kind_of(folder)) not in ("a folder", "nothing"):
        raise CaptionlessError(f"`out={folder}` is {kind}, not a folder. Choose another path.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CaptionlessError(
            f"`out={folder}` cannot be written to: {error.strerror or error}. Choose another folder."
        ) from error
