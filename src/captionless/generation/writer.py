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
from captionless.generation.grids import labelled_grid, sample_grid

MANIFEST = "manifest.jsonl"
COLUMNS = 8
MAX_ROWS = 60
ODD_NAMES = "backslashreplace"
"""A file's name need not be text; what is none is written as a code."""
_IMAGES = r"(\d+)(?:-film)?\.(?:png|gif)"
_SHEETS = r"sheet-(\d+)\.png"


@dataclass(frozen=True)
class Painted:
    """One picture and all that decided it, by name: prompt, seed, settings; what was not used is left out or None."""

    image: Image.Image
    facts: dict[str, Any]

    @property
    def title(self) -> str:
        """What it is to show, in words."""
        title = self.facts["prompt"] or f"like {Path(self.facts['like']).name}"
        for word in ("then", "towards"):
            if self.facts.get(word):
                title += f" … {word} {self.facts[word]}"
        return str(title)

    @property
    def subtitle(self) -> str:
        """What tells it from the other pictures of its prompt."""
        share = self.facts.get("towards_share")
        return f"seed {self.facts['seed']}" if share is None else f"{share:.0%} of the way"


class ImageWriter:
    """A folder that pictures are added to: ``0001.png`` onward, ``sheet-0001.png``, ``manifest.jsonl``.

    Each PNG carries as text what its line of the manifest says.

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

    def add(self, sampled: Sequence[Painted]) -> list[Path]:
        """Write pictures under the next free numbers and note them in the manifest; return their paths.

        Raises:
            CaptionlessError: something cannot be written; the pictures written before are in the manifest.
        """
        numbers = count(self._next(_IMAGES))
        paths: list[Path] = []
        try:
            for one in sampled:
                paths.append(self._write(one.image, "{:04d}.png", numbers, _chunks(one.facts)))
        finally:
            self._note([{"file": path.name, **one.facts} for path, one in zip(paths, sampled, strict=False)])
        return paths

    def add_sheet(self, sampled: Sequence[Painted], n: int) -> Path:
        """Draw pictures, ``n`` of each prompt in turn, on a contact sheet and return its path.

        Each prompt has its rows; where there is one picture a prompt, several share a row, each over its prompt.
        No more than ``sheet_limit(n)`` are shown.
        """
        sampled = sampled[: sheet_limit(n)]
        cell = max(128, sampled[0].image.width)
        if n == 1:
            labels = [one.title for one in sampled]
            return self._write_sheet(labelled_grid([one.image for one in sampled], labels, COLUMNS, cell))
        return self._write_sheet(sample_grid(*sheet_rows(sampled, n), cell))

    def add_sweep(self, heads: Sequence[str], columns: Sequence[Sequence[Painted]], several: bool) -> Path:
        """Draw the same pictures in several ways, a column each, on a contact sheet and return its path.

        No more than ``sweep_limit`` of each column are shown.

        Args:
            heads: one text a column.
            columns: pictures of the same prompts and seeds in the same order.
            several: whether there are several pictures of a prompt, to be told apart.
        """
        shown = list(zip(*columns, strict=True))[: sweep_limit(len(columns))]
        labels = [(f"{row[0].subtitle}: " if several else "") + row[0].title for row in shown]
        rows = [[one.image for one in row] for row in shown]
        return self._write_sheet(sample_grid(rows, labels, max(128, rows[0][0].width), heads))

    def add_film(self, path: Path, strip: Image.Image, animation: bytes) -> tuple[Path, Path]:
        """Write how the picture at ``path`` came about beside it; return the paths of the strip and of the animation.

        Args:
            path: as ``add`` returned it.
            strip: its steps on one sheet.
            animation: its steps as a GIF file.
        """
        still, moving = path.with_name(f"{path.stem}-film.png"), path.with_name(f"{path.stem}-film.gif")
        with atomic_write(still) as temporary:
            strip.save(temporary, format="PNG")
        with atomic_write(moving) as temporary:
            temporary.write_bytes(animation)
        return still, moving

    def _write_sheet(self, sheet: Image.Image) -> Path:
        return self._write(sheet, "sheet-{:04d}.png", count(self._next(_SHEETS)))

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
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode(errors=ODD_NAMES)
        with self._reporting(f"write {MANIFEST} in"), (self.folder / MANIFEST).open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            # In a file that was empty nothing is looked at: what stands there now, others have just begun to write.
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
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


def _chunks(facts: dict[str, Any]) -> PngInfo:
    """Return the facts as PNG text, what is no text as JSON."""
    text = PngInfo()
    for name, value in facts.items():
        if value is not None:
            words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text.add_itxt(name, words.encode(errors=ODD_NAMES).decode())
    return text


def sweep_limit(columns: int) -> int:
    """Return how many rows a contact sheet of so many columns shows at most."""
    return max(1, min(MAX_ROWS, MAX_ROWS * COLUMNS // columns))


def sheet_limit(n: int) -> int:
    """Return how many pictures a contact sheet shows at most, with ``n`` of each prompt."""
    if n == 1:
        return MAX_ROWS * COLUMNS
    rows = math.ceil(n / COLUMNS)  # of a prompt
    return MAX_ROWS // rows * n + MAX_ROWS % rows * COLUMNS


def sheet_rows(sampled: Sequence[Painted], n: int) -> tuple[list[list[Image.Image]], list[str]]:
    """Arrange pictures, ``n`` of each prompt in turn, in rows of one prompt each, continued below where it has many."""
    rows: list[list[Image.Image]] = []
    labels: list[str] = []
    for start in range(0, len(sampled), n):
        group = sampled[start : start + n]
        for at in range(0, len(group), COLUMNS):
            rows.append([one.image for one in group[at : at + COLUMNS]])
            labels.append("" if at else group[0].title)
    return rows, labels
