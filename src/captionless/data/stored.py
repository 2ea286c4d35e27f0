"""Read images that are no files of their own: objects behind a URL, members of tars and rows of Parquet files.

A `StoredFile` takes the place of a path, so whatever reads a folder of images reads these too, without unpacking them.
URLs are opened by fsspec (``s3://``, ``gs://``, ``hf://``, …), whose settings and credentials apply.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from captionless.data.parquet import open_parquet, row_bytes
from captionless.data.stores import StoreFile, attempt, file_system, store
from captionless.errors import CaptionlessError

TAR, PARQUET = ".tar", ".parquet"
ARCHIVES = (TAR, PARQUET)
"""Files that hold images: WebDataset shards, and data sets of the Hugging Face hub."""
_FIELDS = frozenset(".txt .json .cls .id .npy .npz .pyd .pickle .pth .ten .index .csv .xml .html".split())  # noqa: SIM905
"""What WebDataset stores beside an image (its caption, class or vector), by extension."""
_THREADS = 64
_PRELOADED = 1 << 24
"""Larger files are not read ahead, because that many at once would fill the memory."""

_LARGEST = 1 << 29
"""Of larger files no more is read; `read_bytes` rejects them."""


class _Stat(NamedTuple):
    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An image in a store or archive, with those methods of ``Path`` that reading images needs."""

    name: str  # path relative to the source; unique in it
    url: str  # URL or local path of the object that holds the bytes
    size: int  # in bytes; 0 if unknown
    stamp: int  # another number if the object changes
    place: tuple[int, int] | None = None  # in a tar, the first byte and their number; in Parquet, row group and row
    problem: str = ""  # why it cannot be read
    data: bytes | None = field(default=None, repr=False)  # the content, if it has been read ahead

    @property
    def suffix(self) -> str:
        """The extension of the name."""
        return PurePosixPath(self.name).suffix

    def is_dir(self) -> bool:
        """Return False."""
        return False

    def stat(self) -> _Stat:
        """Return size and stamp as ``st_size`` and ``st_mtime_ns``."""
        return _Stat(self.size, self.stamp)

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Return the content as a file; ``mode`` is that of ``Path.open``."""
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Return the content.

        Raises:
            OSError: there is no such object, or its archive is damaged.
            StoreError: the store failed several times in a row.
        """
        if self.problem:
            raise OSError(self.problem)
        return attempt(self.url, self._read) if self.data is None else self.data

    def _read(self) -> bytes:
        if self.place and self.url.endswith(PARQUET):
            return row_bytes(self.url, self.stamp, *self.place)
        system, path = file_system(self.url)
        first, count = self.place or (0, self.size)
        part = {} if self.place is None and count <= _LARGEST else {"start": first, "end": first + min(count, _LARGEST)}
        with store(self.url):
            return bytes(system.cat_file(path, **part))


File = Path | StoredFile


def is_stored(source: str | Path) -> bool:
    """Return whether a source of images is a URL, an archive or a pattern such as ``*.tar``, not a local folder."""
    text = str(source)
    return "://" in text or ((text.endswith(ARCHIVES) or "*" in text) and not os.path.isdir(os.path.expanduser(text)))


def source_base(source: str | Path) -> str:
    """Return what the names of a source's files are relative to: a URL or an absolute path."""
    text = str(source)
    base = text.rstrip("/") if "://" in text else os.path.abspath(os.path.expanduser(text))
    if base.endswith(ARCHIVES) and is_stored(source):
        base = base.rpartition("/")[0]
    while "*" in base and is_stored(source):
        base = base.rpartition("/")[0]
    return base


def list_stored(source: str | Path) -> list[StoredFile]:
    """List the objects of a source for which `is_stored` holds, sorted by name, without hidden ones (leading dot).

    Raises:
        CaptionlessError: there are none, fsspec does not know the protocol, or the store cannot be listed.
    """
    text, base = str(source), source_base(source)

    def listed() -> dict[str, Any]:
        system, root = file_system(text)
        with store(text):
            return dict((system.glob if "*" in text else system.find)(root, detail=True))

    try:
        objects = attempt(text, listed)
    except OSError as error:
        raise CaptionlessError(f"cannot list {source}: {error.strerror or error}. Check the path.") from error
    start = attempt(text, lambda: file_system(base))[1].rstrip("/") + "/"
    files = []
    for path, about in objects.items():
        name = path.removeprefix(start)
        if about["type"] == "file" and not _hidden(name):
            stamp = _number(sorted(about.items()))
            files.append(StoredFile(name, f"{base}/{name}", int(about.get("size") or 0), stamp))
    if not files:
        raise CaptionlessError(f"there are no files in {source}. Check the address, and put patterns in quotes.")
    return sorted(files, key=lambda file: file.name)


def expand(files: Iterable[File], name: Callable[[Path], str]) -> Iterator[File]:
    """Yield files, but for each tar or Parquet file the images in it.

    An archive that cannot be read becomes one file that cannot be read.

    Args:
        files: the files.
        name: returns the name of a local file.
    """
    for file in files:
        if file.suffix not in ARCHIVES or (isinstance(file, Path) and not os.path.isfile(file)):
            yield file
            continue
        listed = _tar_members if file.suffix == TAR else _parquet_rows
        problem = ""
        try:
            if isinstance(file, Path):
                status = file.stat()
                file = StoredFile(name(file), str(file), status.st_size, _number((status.st_size, status.st_mtime_ns)))
            archive = file
            members, problem = attempt(archive.url, lambda: listed(archive))  # noqa: B023, called at once
            yield from members
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            yield replace(file, problem=problem) if isinstance(file, StoredFile) else file


def read_ahead(files: Iterable[File]) -> Iterator[File]:
    """Yield files in order; those in stores and archives with their content, which threads read ahead.

    Raises:
        StoreError: a store failed several times in a row.
    """
    waiting: deque[File | Future[StoredFile]] = deque()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for file in files:
            waiting.append(pool.submit(_loaded, file) if isinstance(file, StoredFile) else file)
            if len(waiting) > _THREADS:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _loaded(file: StoredFile) -> StoredFile:
    if file.size > _PRELOADED:
        return file
    try:
        return replace(file, data=file.read_bytes())
    except OSError as error:
        return replace(file, problem=error.strerror or str(error))


def _result(item: File | Future[StoredFile]) -> File:
    return item.result() if isinstance(item, Future) else item


def _tar_members(archive: StoredFile) -> tuple[list[StoredFile], str]:
    """Return the members of a tar that may be images, and what is wrong with its end, if anything."""
    members: list[StoredFile] = []
    with StoreFile(archive.url) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for one in tar:
                    name = one.name.removeprefix("./")
                    if one.isreg() and not _hidden(name) and PurePosixPath(name).suffix not in _FIELDS:
                        place = (one.offset_data, one.size)
                        members.append(replace(archive, name=f"{archive.name}/{name}", size=one.size, place=place))
        except tarfile.TarError as error:
            return members, f"damaged tar ({error})"
    return members, ""


def _parquet_rows(archive: StoredFile) -> tuple[list[StoredFile], str]:
    """Return the rows of a Parquet file with a column of images (``struct{bytes, path}``), and an empty text."""
    rows: list[StoredFile] = []
    with open_parquet(archive.url) as (file, column):
        has_paths = file.schema_arrow.field(column).type.get_field_index("path") >= 0
        for group in range(file.num_row_groups):
            if has_paths:
                table = file.read_row_group(group, [f"{column}.path"])
                paths = [row and row["path"] for row in table.column(0).to_pylist()]
            else:
                paths = [None] * file.metadata.row_group(group).num_rows
            for row, path in enumerate(paths):
                name = f"{archive.name}/{len(rows):06}" + (f"/{path}" if path else "")
                rows.append(replace(archive, name=name, size=0, place=(group, row)))
    return rows, ""


def _number(facts: object) -> int:
    return int(hashlib.sha256(repr(facts).encode()).hexdigest()[:13], 16)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
