"""Writing pictures that remember how they were made, and never over one another."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.sheets import contact_sheet, labelled_grid

MANIFEST = "manifest.jsonl"
COLUMNS = 8
MAX_ROWS = 60
CHUNKS = ("prompt", "seed", "guidance", "steps", "sampler", "model")
"""What each PNG carries as text."""


@dataclass(frozen=True)
class Painted:
    """One picture and what is worth remembering of it: prompt, seed, settings."""

    image: Image.Image
    facts: dict[str, Any]


class Gallery:
    """A folder that pictures are added to: ``0001.png`` onward, ``sheet-0001.png``, ``manifest.jsonl``.

    Several processes may add to one folder at once: a number belongs to whoever creates its file first.

    Args:
        folder: made where it does not exist.

    Raises:
        CaptionlessError: the path is a file, or cannot be looked into.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        with self._reporting("look into"):
            if self.folder.exists() and not self.folder.is_dir():
                raise CaptionlessError(f"--out {self.folder} is a file. Choose a folder.")

    def add(self, painted: Sequence[Painted]) -> list[Path]:
        """Write pictures under the next free numbers and note them in the manifest; return their paths.

        Raises:
            CaptionlessError: something cannot be written; the pictures written before are in the manifest.
        """
        numbers = count(self._next(r"(\d+)\.png"))
        paths: list[Path] = []
        try:
            for one in painted:
                text = PngInfo()
                for name in CHUNKS:
                    text.add_itxt(name, str(one.facts[name]))
                paths.append(self._write(one.image, "{:04d}.png", numbers, text))
        finally:
            self._note([{"file": path.name, **one.facts} for path, one in zip(paths, painted, strict=False)])
        return paths

    def add_sheet(self, painted: Sequence[Painted], n: int) -> Path:
        """Draw pictures, ``n`` of each prompt in turn, on a contact sheet and return its path.

        Each prompt has its rows; where there is one picture a prompt, several share a row, each over its prompt.
        No more than ``sheet_limit(n)`` are shown.
        """
        painted = painted[: sheet_limit(n)]
        cell = max(128, painted[0].image.width)
        if n == 1:
            labels = [str(one.facts["prompt"]) for one in painted]
            sheet = labelled_grid([one.image for one in painted], labels, COLUMNS, cell)
        else:
            sheet = contact_sheet(*sheet_rows(painted, n), cell)
        return self._write(sheet, "sheet-{:04d}.png", count(self._next(r"sheet-(\d+)\.png")))

    def _write(self, image: Image.Image, name: str, numbers: Iterator[int], text: PngInfo | None = None) -> Path:
        """Write a PNG under the first of the ``numbers`` that nobody has."""
        path = self._claim(name, numbers)
        try:
            with atomic_write(path) as temporary:
                image.save(temporary, format="PNG", pnginfo=text)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _claim(self, name: str, numbers: Iterator[int]) -> Path:
        """Create an empty file that was not there before, and return its path."""
        with self._reporting("write into"):
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = self.folder / name.format(next(numbers))
                with suppress(FileExistsError):
                    path.open("xb").close()
                    return path

    def _note(self, lines: Sequence[dict[str, Any]]) -> None:
        """Append to the manifest in one write, so that what others append meanwhile is kept."""
        if not lines:
            return
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        with self._reporting(f"write {MANIFEST} in"), (self.folder / MANIFEST).open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            if file.read(1) not in (b"", b"\n"):
                data = b"\n" + data
            written = file.write(data)
            if written < len(data):
                file.truncate(file.tell() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _next(self, pattern: str) -> int:
        """Return one more than the highest number among the files so named (in capitals or not)."""
        with self._reporting("look into"):
            names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        found = (re.fullmatch(pattern, name, re.IGNORECASE) for name in names)
        return 1 + max((int(match[1]) for match in found if match), default=0)

    @contextmanager
    def _reporting(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise CaptionlessError(
                f"cannot {action} {self.folder}: {reason}. Free some space or choose another folder with --out."
            ) from error


def sheet_limit(n: int) -> int:
    """Return how many pictures a contact sheet shows at most, with ``n`` of each prompt."""
    if n == 1:
        return MAX_ROWS * COLUMNS
    rows = math.ceil(n / COLUMNS)  # of a prompt
    return MAX_ROWS // rows * n + MAX_ROWS % rows * COLUMNS


def sheet_rows(painted: Sequence[Painted], n: int) -> tuple[list[list[Image.Image]], list[str]]:
    """Arrange pictures, ``n`` of each prompt in turn, in rows of one prompt each, continued below where it has many."""
    rows: list[list[Image.Image]] = []
    labels: list[str] = []
    for start in range(0, len(painted), n):
        group = painted[start : start + n]
        for at in range(0, len(group), COLUMNS):
            rows.append([one.image for one in group[at : at + COLUMNS]])
            labels.append("" if at else str(group[0].facts["prompt"]))
    return rows, labels
