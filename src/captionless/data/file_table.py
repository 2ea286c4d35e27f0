"""Remember what is known about the files of a folder, so that unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from captionless.data.cache import FILES
from captionless.data.folder import relative_name
from captionless.data.images import ImageFile, SkippedFile
from captionless.files import atomic_write

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: a file with the same stamp counts as unchanged."""
_PASSING = ("cannot be read", "crashed the decoder", "too large")
"""Kinds of reasons that may not hold the next time: they depend on permissions or memory."""


class FileTable:
    """The files of a folder by name and stamp, in a file of the cache.

    Args:
        cache: the cache folder.
        folder: the folder of images.
        verify: start with an empty table, so that every file is read again.
    """

    def __init__(self, cache: Path, folder: str | Path, *, verify: bool = False) -> None:
        self._root = os.path.abspath(folder)
        self._path = cache / FILES / f"{hashlib.sha256(os.fsencode(self._root)).hexdigest()[:40]}.json"
        self._rows: dict[str, list[Any]] = {} if verify else self._read()
        self._stamps: dict[str, Stamp] = {}
        self._changed = False

    def find(self, path: Path) -> ImageFile | SkippedFile | None:
        """Return the entry of an unchanged file, without pixels, or None if the file is new or has changed."""
        name = relative_name(path, self._root)
        try:
            status = path.stat()
        except OSError:
            return None
        self._stamps[name] = status.st_size, status.st_mtime_ns
        size, changed, *facts = self._rows.get(name, (-1, -1))
        if (size, changed) != self._stamps[name]:
            return None
        *facts, notes = facts
        kind: Any = ImageFile if len(facts) > 1 else SkippedFile
        entry: ImageFile | SkippedFile = kind(name, *facts, tuple(notes))
        return entry

    def remember(self, entry: ImageFile | SkippedFile) -> None:
        """Note the entry of a file that was read after `find` had been asked for it."""
        facts: tuple[object, ...]
        if isinstance(entry, ImageFile):
            facts = entry.digest, entry.width, entry.height, entry.transparent, entry.pixel_art
        elif entry.kind in _PASSING:
            return
        else:
            facts = (entry.reason,)
        self._rows[entry.name] = [*self._stamps.get(entry.name, (0, 0)), *facts, entry.notes]
        self._changed = True

    def save(self) -> None:
        """Write the table if something was noted; files that `find` was not asked for are forgotten."""
        if not self._changed:
            return
        rows = {name: row for name, row in self._rows.items() if name in self._stamps}
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        with atomic_write(self._path) as temporary:
            temporary.write_text(f"{digest}\n{text}", encoding="utf-8")
        self._changed = False

    def _read(self) -> dict[str, list[Any]]:
        try:
            digest, _, text = self._path.read_text(encoding="utf-8").partition("\n")
        except (OSError, UnicodeDecodeError):
            return {}
        if hashlib.sha256(text.encode()).hexdigest() != digest:  # damaged: the files are read again
            return {}
        rows: dict[str, list[Any]] = json.loads(text)
        return rows
