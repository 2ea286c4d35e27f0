"""Writing pictures that remember how they were made, and never over one another."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.sheets import contact_sheet

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

    Args:
        folder: made where it does not exist.

    Raises:
        CaptionlessError: the path is a file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise CaptionlessError(f"--out {self.folder} is a file. Choose a folder.")

    def add(self, painted: Sequence[Painted]) -> list[Path]:
        """Write pictures under the next free numbers and note them in the manifest; return their paths."""
        number = self._next(r"(\d+)\.png")
        paths = []
        for offset, one in enumerate(painted):
            path = self.folder / f"{number + offset:04d}.png"
            text = PngInfo()
            for name in CHUNKS:
                text.add_itxt(name, str(one.facts[name]))
            with atomic_write(path) as temporary:
                one.image.save(temporary, format="PNG", pnginfo=text)
            paths.append(path)
        self._note([{"file": path.name, **one.facts} for path, one in zip(paths, painted, strict=True)])
        return paths

    def add_sheet(self, painted: Sequence[Painted]) -> Path:
        """Draw everything on one contact sheet, a prompt a row (or more), and return its path."""
        path = self.folder / f"sheet-{self._next(r'sheet-([0-9]+)[.]png'):04d}.png"
        rows, labels = sheet_rows(painted)
        cell = max(128, painted[0].image.width)
        with atomic_write(path) as temporary:
            contact_sheet(rows, labels, cell).save(temporary, format="PNG")
        return path

    def _note(self, lines: Sequence[dict[str, Any]]) -> None:
        path = self.folder / MANIFEST
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        added = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with atomic_write(path) as temporary:
            temporary.write_bytes(before + added.encode())

    def _next(self, pattern: str) -> int:
        """Return one more than the highest number among the files so named."""
        if not self.folder.is_dir():
            return 1
        found = (re.fullmatch(pattern, path.name) for path in self.folder.iterdir())
        return 1 + max((int(match[1]) for match in found if match), default=0)


def sheet_rows(painted: Sequence[Painted]) -> tuple[list[list[Image.Image]], list[str]]:
    """Arrange pictures in rows of one prompt each (continued below where it has many), at most ``MAX_ROWS``."""
    rows: list[list[Image.Image]] = []
    labels: list[str] = []
    prompt = None
    for one in painted:
        new = one.facts["prompt"] != prompt
        if new or len(rows[-1]) == COLUMNS:
            if len(rows) == MAX_ROWS:
                break
            prompt = one.facts["prompt"]
            rows.append([])
            labels.append(str(prompt) if new else "")
        rows[-1].append(one.image)
    return rows, labels
