"""Read and write ``pictures.csv``, the list of a model's training and held-out images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from captionless.data.csv_rows import read_rows, write_rows
from captionless.files import atomic_write

IMAGE_LIST = "pictures.csv"
TRAIN, HELD_OUT, COPY = "train", "held out", "copy"
"""Roles of an image. A ``COPY`` is another file (with different bytes) of the training image listed under the same
name: the model has seen it, but it is not counted as an additional image."""


def write_image_list(folder: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write the name, content hash, role (``TRAIN``, …) and optional label of every image."""
    rows = list(rows)
    with atomic_write(folder / IMAGE_LIST) as path, path.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, [("file", "sha256", "role", "label")[: len(rows[0]) if rows else 3], *rows])


def read_image_list(folder: Path) -> list[tuple[str, str, str]]:
    """Return the name, content hash and role of every image; empty if the model folder has no list."""
    return [(row[0], row[1], row[2]) for row in _read_rows(folder) if len(row) in (3, 4)]


def listed_labels(folder: Path) -> dict[str, str]:
    """Return the label of each image by content hash; empty for a text-conditional model."""
    return {row[1]: row[3] for row in _read_rows(folder) if len(row) == 4}


def _read_rows(folder: Path) -> list[list[str]]:
    path = folder / IMAGE_LIST
    return [row.values for row in read_rows(path)][1:] if path.is_file() else []
