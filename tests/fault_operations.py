"""The operations on files of a process, one of which may fail; free of heavy imports, for worker processes."""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loky import ProcessPoolExecutor

from captionless.data import process_pool

WORKERS = " (workers)"
"""How the name of a command ends if its worker processes fail."""
WRITES = ("ENOSPC", "EIO", "EROFS", "EACCES", "EPERM", "EDQUOT", "ENOTSUP")
READS = ("EIO", "EACCES", "ENOENT", "EMFILE", "ESTALE")
REMOVAL = ("os.open", "os.scandir", "os.lstat")
"""Calls without which no folder can be removed."""
CALLS: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (builtins, "open", ()),
    (io, "open", ()),
    (os, "open", ()),
    (os, "replace", WRITES),
    (os, "link", WRITES),
    (os, "unlink", WRITES),
    (os, "mkdir", WRITES),
    (os, "chmod", WRITES),
    (os, "fsync", WRITES),
    (os, "utime", WRITES),
    (os, "scandir", READS),
    (os, "stat", READS),
    (os, "lstat", READS),
    (fcntl, "flock", ("ENOLCK", "ENOSYS", "ENOTSUP", "EIO", "EPERM")),
)
"""Calls that may fail, and how; the failures of `open` depend on its mode."""


@dataclass(frozen=True)
class Fault:
    """The failure of the operation with a ``number`` in a command; a ``number`` below 0 is a limit of file sizes.

    In worker processes, among which files are divided as it happens, that of the same ``call`` and ``path``.
    """

    command: str
    number: int
    call: str
    path: str
    error: str
    lasting: bool

    @property
    def workers(self) -> bool:
        """Whether it happens in worker processes."""
        return self.command.endswith(WORKERS)

    def __str__(self) -> str:
        where = f"{self.call} {self.path}" if self.number >= 0 else f"files of more than {-self.number} bytes"
        return f"{self.command}: {where}: {self.error}{' from then on' if self.lasting else ''}"


class Operations:
    """Notes the operations on files of a folder, and lets one of them fail."""

    def __init__(self, folder: Path, fault: Fault | None = None, notes: Path | None = None) -> None:
        self.folder, self.fault, self.count, self.failed, self.busy = str(folder), fault, 0, False, False
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if notes else None

    def watch(self) -> None:
        """Replace the functions of this process."""
        for owner, name, errors in CALLS:
            setattr(owner, name, self._watched(f"{owner.__name__}.{name}", getattr(owner, name), errors))

    def _watched(self, name: str, call: Callable[..., Any], errors: tuple[str, ...]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self.busy and (path := self._path(args[0] if args else "")):
                self._count(name, path, errors or self._opening(args, kwargs))
            return call(*args, **kwargs)

        return watched

    def _path(self, place: Any) -> str:
        """Return the path of a file of the folder, relative to it; empty for other files."""
        self.busy = True
        try:
            path = (
                os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else os.path.abspath(os.fsdecode(place))
            )
        except (TypeError, OSError):
            return ""
        finally:
            self.busy = False
        return os.path.relpath(path, self.folder) if path.startswith(self.folder + "/") else ""

    def _opening(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
        writes = mode & (os.O_WRONLY | os.O_RDWR) if isinstance(mode, int) else set("wax+") & set(mode)
        return WRITES if writes else READS

    def _count(self, name: str, path: str, errors: tuple[str, ...]) -> None:
        number, fault = self.count, self.fault
        self.count += 1
        if self.notes is not None:  # at once, as workers are killed
            os.write(self.notes, f"{name}\t{path}\t{','.join(errors)}\n".encode())
        if not fault or fault.number < 0:
            return
        here = (name, path) == (fault.call, fault.path) if fault.workers else number == fault.number
        lasts = fault.lasting and self.failed and name == fault.call and fault.error in errors
        if lasts or (here and not self.failed):
            self.failed = True
            code = getattr(errno, fault.error)
            raise OSError(code, os.strerror(code), path)


def watch_workers(folder: Path, fault: Fault | None = None, notes: Path | None = None) -> None:
    """Let the worker processes that this process will start note their operations, and fail in one of them."""

    def start(workers: int) -> ProcessPoolExecutor:
        about = (os.getpid(), folder, fault, notes)
        return ProcessPoolExecutor(workers, initializer=_begin, initargs=about, env=process_pool._ONE_THREAD)

    process_pool._start = start


def _begin(parent: int, folder: Path, fault: Fault | None, notes: Path | None) -> None:
    process_pool._begin(parent)
    Operations(folder, fault, notes).watch()
