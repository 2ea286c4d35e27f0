"""Enumerate what a crash of the machine can leave on a disk, from a record of what a program did to it.

The record is made by looking at a folder around every call that changes names or flushes. What was not flushed may be
lost or torn: POSIX promises no more than that ``fsync`` of a file keeps its content, and that of a folder its names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, bytes]
"""The content of a folder: files by path."""
MOST_SUBSETS = 4
"""Changes of names that may each be lost or not; of more, only the last ones or a single one is lost."""
_CALLS = ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")


@dataclass(frozen=True)
class Names:
    """Names that changed together, by path: the number of the file that has the name now, or None."""

    changes: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Data:
    """The content of a file that changed."""

    file: int
    content: bytes


@dataclass(frozen=True)
class Flush:
    """The flushing of a file or a folder; ``path`` is that of a folder."""

    file: int
    path: str | None


@dataclass
class Record:
    """What was done to a folder, in order; ``marks`` are numbers of operations at which something was complete."""

    root: Path
    operations: list[Names | Data | Flush] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    _stamps: dict[int, tuple[int, int]] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _born: int = 0

    def look(self) -> None:
        """Record what has changed since the last look."""
        now: dict[str, int] = {}
        changed: list[Data] = []
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            file = self._number(status)
            now[path.relative_to(self.root).as_posix()] = file
            stamp = status.st_mtime_ns, status.st_size
            if path.is_file() and self._stamps.get(file) != stamp:
                self._stamps[file] = stamp
                changed.append(Data(file, path.read_bytes()))
        names = [(path, file) for path, file in now.items() if self._names.get(path) != file]
        gone = [(path, None) for path in self._names if path not in now]
        if names or gone:
            self.operations.append(Names((*names, *gone)))
        self.operations += changed
        self._names = now

    def flushed(self, handle: int) -> None:
        """Record the flushing of an open file or folder."""
        file = self._number(os.fstat(handle))
        folders = [path for path, one in self._names.items() if one == file and (self.root / path).is_dir()]
        outside = os.fstat(handle).st_ino == self.root.stat().st_ino
        self.operations.append(Flush(file, "" if outside else folders[0] if folders else None))

    def _number(self, status: os.stat_result) -> int:
        """Number files in the order in which they are seen: the system uses the same inode again after a deletion."""
        if status.st_ino not in self._numbers:
            self._numbers[status.st_ino] = self._born
            self._born += 1
        return self._numbers[status.st_ino]

    def forget(self, path: str) -> None:
        """Forget a file that is about to lose its last name, so that another may get its inode."""
        try:
            status = (self.root / path).lstat()
        except OSError:
            return
        if status.st_nlink == 1 or (self.root / path).is_dir():
            self._numbers.pop(status.st_ino, None)


@contextmanager
def recorded(root: Path) -> Iterator[Record]:
    """Record what this process does to a folder."""
    record = Record(root)
    record.look()
    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, _watched(record, name, getattr(os, name)))
        yield record
        record.look()


def _watched(record: Record, name: str, call: Any) -> Any:
    def watched(*args: Any, **kwargs: Any) -> Any:
        record.look()
        if name in ("replace", "rename", "unlink", "rmdir"):
            lost = Path(os.path.abspath(args[-1 if name in ("replace", "rename") else 0]))
            if lost.is_relative_to(record.root) and not (name == "unlink" and not os.path.lexists(lost)):
                record.forget(lost.relative_to(record.root).as_posix())
        result = call(*args, **kwargs)
        if name == "fsync":
            record.flushed(args[0])
        record.look()
        return result

    return watched


def crash_states(record: Record, first: int = 0) -> Iterator[tuple[int, Tree]]:
    """Yield what may be on the disk after a crash: the number of operations before it, and the content of the folder.

    Crashes before operation number ``first`` are left out.
    Temporary files are left out, because nothing reads them.
    """
    for done in range(first, len(record.operations) + 1):
        lasting, pending, contents = _replay(record.operations[:done])
        for kept in _subsets(pending):
            names = dict(lasting)
            for number in kept:
                for path, file in pending[number].changes:
                    if file is None:
                        names.pop(path, None)
                    else:
                        names[path] = file
            names = {path: file for path, file in names.items() if file in contents and _has_folders(path, names)}
            paths = [path for path in names if not path.endswith(".tmp")]
            for found in _choices([contents[names[path]] for path in paths]):
                yield done, dict(zip(paths, found, strict=True))


def identity(tree: Tree) -> frozenset[tuple[str, int]]:
    """Return what tells the content of a folder from that of another; Python keeps the hash of each content."""
    return frozenset((path, hash(content)) for path, content in tree.items())


def write(tree: Tree, folder: Path) -> Path:
    """Write the content of a folder."""
    for path, content in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def _replay(operations: list[Names | Data | Flush]) -> tuple[dict[str, int], list[Names], dict[int, list[bytes]]]:
    """Return the names that last, the changes of names that may be lost, and what each file may contain."""
    lasting: dict[str, int] = {}
    pending: list[Names] = []
    contents: dict[int, list[bytes]] = {}
    for operation in operations:
        if isinstance(operation, Names):
            pending.append(operation)
        elif isinstance(operation, Data):
            whole, before = operation.content, contents.get(operation.file, [b""])
            torn = [whole[: len(whole) // 2], bytes(len(whole))] if whole else []
            contents[operation.file] = list(dict.fromkeys([*before, *torn, whole]))
        elif operation.path is None:
            if operation.file in contents:
                contents[operation.file] = contents[operation.file][-1:]
        else:
            for change in pending:
                for path, file in change.changes:
                    if path.rpartition("/")[0] == operation.path:
                        if file is None:
                            lasting.pop(path, None)
                        else:
                            lasting[path] = file
            rest = [
                Names(tuple((path, file) for path, file in one.changes if path.rpartition("/")[0] != operation.path))
                for one in pending
            ]
            pending = [one for one in rest if one.changes]
    return lasting, pending, contents


def _subsets(pending: list[Names]) -> Iterator[tuple[int, ...]]:
    """Yield which of the changes last: all combinations of a few; of many, the first ones or all but one."""
    numbers = range(len(pending))
    if len(pending) <= MOST_SUBSETS:
        for size in range(len(pending) + 1):
            yield from combinations(numbers, size)
        return
    for size in range(len(pending) + 1):
        yield tuple(numbers[:size])
    for lost in numbers:
        yield tuple(number for number in numbers if number != lost)


def _choices(contents: list[list[bytes]]) -> Iterator[tuple[bytes, ...]]:
    """Yield what the files contain: all combinations of a few; of many, the newest of all files but one."""
    if prod(map(len, contents)) <= 4**MOST_SUBSETS:
        yield from product(*contents)
        return
    newest = tuple(found[-1] for found in contents)
    yield newest
    for number, found in enumerate(contents):
        for content in found[:-1]:
            yield (*newest[:number], content, *newest[number + 1 :])


def _has_folders(path: str, names: dict[str, int]) -> bool:
    return all(str(parent) in names for parent in Path(path).parents if str(parent) != ".")
