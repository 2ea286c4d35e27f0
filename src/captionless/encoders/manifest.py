"""List a large source of images once, and cut the list into shards, the units of work of embedding it.

Layout: ``<out>/manifest/<listing>/shards.jsonl``. The first line names the source and the number of shards, and each
further line is a shard: its name, its files and their digest. A listing is a folder that is renamed into place, so of
several processes that list the same source at the same time one succeeds, and the others use its list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionless.data.folder import list_files, source_root
from captionless.data.stored import ARCHIVES, File, StoredFile, is_stored, source_base
from captionless.encoders.shard_files import read_skipped
from captionless.errors import CaptionlessError
from captionless.files import atomic_folder
from captionless.text_files import parse_json, read_lines

_FOLDER, _FILE = "manifest", "shards.jsonl"
_NO_IMAGES = ("not an image", "system folder")
_LONGEST = 300_000_000
"""Characters of the longest line, for a shard of a million files."""


@dataclass(frozen=True)
class Shard:
    """A part of a source."""

    name: str  # ``<listing>-<number>``: the name of its vectors' file, without extension
    source: str
    files: Sequence[File]  # a tar or Parquet file stands for the images in it


def list_shards(source: str | Path, out: Path, size: int, *, again: bool = False) -> None:
    """Write the manifest of a source, unless there is one.

    Args:
        source: see `find_images`.
        out: the folder of the manifest.
        size: number of files in a shard.
        again: list the source again, and add shards of the files that are new or to be tried again.

    Raises:
        CaptionlessError: the source cannot be listed or contains ``out``, or the manifest is that of another source.
    """
    if not is_stored(source) and out.resolve().is_relative_to(Path(source_root(source)).resolve()):
        raise CaptionlessError(f"`shards={out}` is inside {source}. Choose a folder outside it.")
    if _listings(source, out) and not again:
        return
    files = list_files(source)
    while True:
        listings = _listings(source, out)
        known = {row for path in listings for shard in _lines(path) for row in _settled(shard, out)}
        new = [row for row in (_row(file, source) for file in files) if tuple(row) not in known]
        place = out / _FOLDER / f"{len(listings) + 1:04}"
        if not new and listings:
            return
        if not new:
            raise CaptionlessError(f"there are no files in {source}. Pass the folder that contains the images.")
        try:
            with atomic_folder(place) as folder, (folder / _FILE).open("w", encoding="utf-8", newline="\n") as file:
                shards = [*_cut(new, size)]
                file.write(json.dumps({"source": str(source_root(source)), "shards": len(shards)}) + "\n")
                for number, rows in enumerate(shards):
                    shard = {"shard": _name(place / _FILE, number), "files": rows}
                    file.write(json.dumps(shard | {"digest": _digest(shard)}) + "\n")
            return
        except CaptionlessError:
            if not (place / _FILE).exists():  # else another process was faster
                raise


def shard_names(source: str | Path, out: Path) -> list[str]:
    """Return the names of the shards of a manifest in the order in which they were listed."""
    return [_name(path, number) for path in _listings(source, out) for number, _ in enumerate(_texts(path))]


def read_shards(source: str | Path, out: Path, wanted: Container[str] | None = None) -> Iterator[Shard]:
    """Yield the shards of a manifest in the order in which they were listed; others than the ``wanted`` are not parsed.

    Raises:
        CaptionlessError: the manifest is damaged, or that of another source.
    """
    stored = is_stored(source)
    base = source_base(source) if stored else str(source_root(source))
    for path in _listings(source, out):
        for line in _lines(path, wanted):
            rows = line["files"]
            files = [StoredFile(row[0], f"{base}/{row[0]}", *row[1:]) if stored else Path(base, *row) for row in rows]
            yield Shard(line["shard"], str(source_root(source)), files)


def _listings(source: str | Path, out: Path) -> list[Path]:
    """Return the listings of a manifest in order."""
    paths = sorted((out / _FOLDER).glob(f"[0-9]*/{_FILE}"))
    for path in paths:
        try:
            listed = parse_json(next(read_lines(path)))["source"]
        except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
            raise _damaged(path) from error
        if listed != str(source_root(source)):
            raise CaptionlessError(
                f"{out} holds the vectors of {listed}, not of {source}. Choose another folder for the shards.",
                parameter="shards",
                value=out,
            )
    return paths


def _lines(path: Path, wanted: Container[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield what a listing says about each of its shards, or of the ``wanted`` ones."""
    for number, line in enumerate(_texts(path)):
        if wanted is None or _name(path, number) in wanted:
            yield _parsed(path, number, line)


def _texts(path: Path) -> Iterator[str]:
    """Yield the line of each shard in a listing."""
    try:
        lines = read_lines(path, longest=_LONGEST)
        left = parse_json(next(lines))["shards"]
        for line in lines:
            left -= 1
            yield line
        if left:
            raise ValueError("it is incomplete")
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise _damaged(path) from error


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        shard = dict(parse_json(line))
        if shard.pop("digest") != _digest(shard) or shard["shard"] != _name(path, number):
            raise ValueError("a shard does not have its digest")
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(path) from error
    return shard


def _name(path: Path, number: int) -> str:
    """Return the name of a shard by its number in a listing."""
    return f"{path.parent.name}-{number:06}"


def _digest(shard: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shard, sort_keys=True).encode()).hexdigest()[:16]


def _damaged(path: Path) -> CaptionlessError:
    return CaptionlessError(
        f"the manifest {path} is damaged. Choose another folder for the shards.", code="damaged_file"
    )


def _row(file: File, source: str | Path) -> list[Any]:
    """Return what the manifest keeps of a file: its name and, if it lies in a store, its size and stamp."""
    if isinstance(file, StoredFile):
        return [file.name, file.size, file.stamp]
    return [file.relative_to(source_root(source)).as_posix()]  # unlike in `relative_name`, not made valid UTF-8


def _settled(shard: dict[str, Any], out: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a shard but for files without a vector that may get one, as they may have been repaired.

    An archive is tried again as a whole, so only for reasons that pass by themselves.
    """
    path = out / f"{shard['shard']}.parquet"
    skipped = read_skipped(path) if path.exists() else []
    failed = {one.name for one in skipped if one.kind not in _NO_IMAGES}
    passing = any(one.passing for one in skipped)
    for row in shard["files"]:
        name = row[0].encode("utf-8", "backslashreplace").decode()  # as in `relative_name`
        if not (passing if name.endswith(ARCHIVES) else name in failed):
            yield tuple(row)


def _cut(rows: Sequence[list[Any]], size: int) -> Iterator[list[list[Any]]]:
    """Yield the files of each shard."""
    plain = [row for row in rows if not row[0].endswith(ARCHIVES)]
    yield from (plain[start : start + size] for start in range(0, len(plain), size))
    yield from ([row] for row in rows if row[0].endswith(ARCHIVES))
