"""Read and write vectors as a CSV without header: one line per image, its path and then its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionless.data.table import Row, read_rows
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

Vectors = NDArray[np.float32]

_PLAIN = re.compile(r"[\w./ +=()-]+")


def write_vectors(path: str | Path, names: Sequence[str], vectors: Vectors) -> None:
    """Write one line per image: its name and the numbers of its vector, with digits enough for every float32 bit.

    Args:
        path: the file.
        names: n names.
        vectors: (n, width).

    Raises:
        CaptionlessError: the file cannot be written.
    """
    if len(names) != len(vectors):
        raise ValueError(f"{len(names)} names, but {len(vectors)} vectors")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for name, vector in zip(names, vectors, strict=True):
            quoted = name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'
            file.write(quoted + "".join(f",{number:.9g}" for number in vector.tolist()) + "\n")


def read_vectors(path: str | Path, width: int | None = None) -> dict[str, Vectors]:
    """Read a file of `write_vectors`: path → vector, float32 (width,).

    Args:
        path: the file.
        width: how many numbers a line must have; by default as many as the first line.

    Raises:
        CaptionlessError: the file cannot be read, one of its lines is wrong, or it is empty.
    """
    vectors: dict[str, Vectors] = {}
    lines: dict[str, int] = {}
    for row in read_rows(path):
        name, *numbers = row.values
        width = width or len(numbers)
        if not name:
            raise row.error("the path is empty", "Begin each line with the path of its image.")
        if len(numbers) != width or not numbers:
            raise row.error(
                f"{len(numbers)} numbers instead of {width or 'some'}",
                "Each line needs a path and as many numbers as the vectors of the encoder have.",
            )
        if name in lines:
            raise row.error(f"line {lines[name]} already has {name}", "Remove one of the two.")
        lines[name] = row.line
        vectors[name] = _vector(numbers, row)
    if not vectors:
        raise CaptionlessError(f"{path} is empty. Give a CSV with one line per image.")
    return vectors


def _vector(texts: list[str], row: Row) -> Vectors:
    try:
        with np.errstate(over="ignore"):
            vector = np.array(texts, dtype=np.float64).astype(np.float32)
    except ValueError as error:
        raise row.error(str(error), "The file needs numbers after the path, and no header.") from error
    if not np.isfinite(vector).all():
        text = texts[int(np.argmin(np.isfinite(vector)))]
        raise row.error(f"{text!r} is not a finite number", "Embed that image again.")
    return vector
