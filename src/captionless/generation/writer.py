"""Write images into a folder as numbered files with metadata, without overwriting existing files."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from captionless.errors import CaptionlessError
from captionless.files import atomic_write, sweep, write_new
from captionless.generation.image import ENCODING_ERRORS, GeneratedImage, png_text
from captionless.paths import kind_of, user_path

MANIFEST = "manifest.jsonl"
_IMAGES = r"(\d+)(?:-trajectory)?\.(?:png|gif)"
_GRIDS = r"grid-(\d+)\.png"


class ImageWriter:
    """Add images to a folder, as ``0001.png``, ``0002.png`` and so on, ``grid-0001.png``, and ``manifest.jsonl``.

    Each PNG file stores the same metadata as its line in the manifest. Several processes can write to the same folder
    at the same time; they never use the same number.

    Args:
        folder: the folder, which is created on the first write.

    Raises:
        CaptionlessError: ``folder`` is a file, or cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = user_path(folder)
        with self._reporting("read"):
            if self.folder.exists() and not self.folder.is_dir():
                raise CaptionlessError(
                    f"{self.folder} is {kind_of(self.folder)}. Choose a folder as `out`.", parameter="out", value=folder
                )
            sweep(self.folder.glob(".*.tmp"))

    def add(self, image: GeneratedImage) -> Path:
        """Write an image, and its trajectory if it has one, under the next free number; return the path of the image.

        The trajectory is written to two files, such as ``0001-trajectory.png`` and ``0001-trajectory.gif``.

        Raises:
            CaptionlessError: a file cannot be written.
        """
        path = self._write(image.image, "{:04d}.png", _IMAGES, pnginfo=png_text(image.metadata))
        try:
            self._append_to_manifest({"file": path.name, **image.metadata})
        except BaseException:  # an interruption too leaves no image without its line
            with suppress(OSError):
                path.unlink()
            raise
        if image.trajectory:
            with atomic_write(path.with_name(f"{path.stem}-trajectory.png")) as temporary:
                image.trajectory.strip().save(temporary, format="PNG")
            with atomic_write(path.with_name(f"{path.stem}-trajectory.gif")) as temporary:
                temporary.write_bytes(image.trajectory.animation())
        return path

    def add_grid(self, grid: Image.Image) -> Path:
        """Write a sample grid under the next free number, and return its path."""
        return self._write(grid, "grid-{:04d}.png", _GRIDS)

    def _write(self, image: Image.Image, name: str, pattern: str, **options: Any) -> Path:
        """Write an image under the next free number; another process may take it first."""
        first = self._next(pattern)
        paths = (self.folder / name.format(number) for number in count(first))
        return write_new(paths, lambda temporary: image.save(temporary, format="PNG", **options))

    def _next(self, pattern: str) -> int:
        """Return one more than the highest number among the files that match ``pattern``, ignoring case."""
        with self._reporting("read"):
            names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        found = (re.fullmatch(pattern, name, re.IGNORECASE) for name in names)
        return 1 + max((int(match[1]) for match in found if match), default=0)

    def _append_to_manifest(self, entry: dict[str, Any]) -> None:
        """Append a line with a single write, so that lines from other processes are not lost."""
        data = (json.dumps(entry, ensure_ascii=False) + "\n").encode(errors=ENCODING_ERRORS)
        with self._reporting(f"write {MANIFEST} in"), (self.folder / MANIFEST).open("a+b", buffering=0) as file:
            _lock(file)
            end = file.seek(0, os.SEEK_END)
            # If the file was empty when it was opened, any content now is a line that another process is still writing.
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    data = b"\n" + data
            written = file.write(data)
            if written < len(data):
                file.truncate(file.tell() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _reporting(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CaptionlessError(
                f"cannot {action} {self.folder}: {error.strerror or error}. Free some space or choose another `out`.",
                parameter="out",
                value=self.folder,
            ) from error


def _lock(file: RawIOBase) -> None:
    """Lock a file until it is closed, on Windows, where appending consists of two steps."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 40)  # a lock of what is not there hinders no reader
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
