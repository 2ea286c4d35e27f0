"""Remember what is known about the files of a folder, so that unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from captionless.data.cache import FILES, remark_unwritable
from captionless.data.decode import DECODING
from captionless.data.folder import relative_name, source_root
from captionless.data.images import ImageFile, SkippedFile
from captionless.data.stored import File
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: a file with the same stamp counts as unchanged."""


class FileTable:
    """The files of a folder by name and stamp, in a file of the cache.

    Args:
        cache: the cache folder.
        folder: the folder of images.
        verify: start with an empty table, so that every file is read again.
    """

    def __init__(self, cache: Path, folder: str | Path, *, verify: bool = False) -> None:
        self._root = source_root(folder)
        place = b"%d %s" % (DECODING, os.fsencode(self._root))
        self._path = cache / FILES / f"{hashlib.sha256(place).hexdigest()[:40]}.jsonl"
        # Lines of JSON take a third of the memory of what they hold.
        self._before: dict[str, bytes] = {} if verify else self._read()
        self._lines: list[bytes] = []
        self._stamps: dict[str, Stamp] = {}
        self._changed = False

    def find(self, path: File) -> ImageFile | SkippedFile | None:
        """Return the entry of an unchanged file, without pixels, or None if the file is new or has changed."""
        name = relative_name(path, self._root)
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = status.st_size, status.st_mtime_ns
        if line := self._before.pop(name, None):
            name, size, changed, *facts, notes = json.loads(line)
            if (size, changed) == stamp:
                self._lines.append(line)
                kind: Any = ImageFile if len(facts) > 1 else SkippedFile
                entry: ImageFile | SkippedFile = kind(name, *facts, tuple(notes))
                return entry
        self._stamps[name] = stamp
        return None

    def remember(self, entry: ImageFile | SkippedFile) -> None:
        """Note the entry of a file that was read because `find` did not know it, or because its pixels were needed."""
        facts: tuple[object, ...]
        if isinstance(entry, ImageFile):
            facts = entry.digest, entry.width, entry.height, entry.transparent, entry.pixel_art
        else:
            facts = (entry.reason,)
        stamp = self._stamps.pop(entry.name, None)
        if stamp and (isinstance(entry, ImageFile) or not entry.passing):
            text = json.dumps((entry.name, *stamp, *facts, entry.notes), separators=(",", ":"))
            self._lines.append(text.encode() + b"\n")
            self._changed = True

    def save(self) -> None:
        """Write the table if something was noted; files that `find` was not asked for are forgotten."""
        if self._changed:
            digest = hashlib.sha256()
            try:
                with atomic_write(self._path) as temporary, temporary.open("wb") as file:
                    for line in self._lines:
                        digest.update(line)
                        file.write(line)
                    file.write(digest.hexdigest().encode())
            except CaptionlessError as error:
                remark_unwritable(self._path.parent, error)

    def _read(self) -> dict[str, bytes]:
        """Return the lines of the file by name, or nothing if the file is missing or damaged."""
        lines: dict[str, bytes] = {}
        digest = hashlib.sha256()
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if line == digest.hexdigest().encode():
                        return lines
                    digest.update(line)
                    lines[json.loads(line)[0]] = line
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return {}
