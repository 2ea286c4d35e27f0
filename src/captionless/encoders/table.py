"""Vectors as a plain table, ``clip.csv``: a line a picture, its path and then its numbers, no header."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from captionless.errors import CaptionlessError
from captionless.files import atomic_write

Vectors = NDArray[np.float32]

_Wrong = Callable[[str, str], CaptionlessError]
_PLAIN = re.compile(r"[\w./ +=()-]+")


def write_vectors(path: str | Path, names: Sequence[str], vectors: Vectors) -> None:
    """Write one line a picture: its name and the numbers of its vector, enough digits for every float32 bit.

    Args:
        path: file to write.
        names: n of them.
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
    """Read what `write_vectors` wrote (or the course's ``clip.csv``): path → vector, float32 (width,).

    Args:
        path: the file.
        width: how many numbers a line must have; by default as many as the first line has.

    Raises:
        CaptionlessError: there is no such file, or a line is wrong; the message names it.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(file, path, width)
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"{path} is not a text file in UTF-8. Give a CSV of path and numbers.") from error
    except OSError as error:
        raise CaptionlessError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error


def _read_rows(file: TextIO, path: str | Path, width: int | None) -> dict[str, Vectors]:
    vectors: dict[str, Vectors] = {}
    lines: dict[str, int] = {}
    rows = csv.reader(file, strict=True)

    def wrong(what: str, remedy: str) -> CaptionlessError:
        return CaptionlessError(f"{path}, line {rows.line_num}: {what}. {remedy}")

    try:
        for name, *numbers in filter(None, rows):
            width = width or len(numbers)
            if not name:
                raise wrong("the path is empty", "Begin each line with the path of its picture.")
            if len(numbers) != width or not numbers:
                raise wrong(
                    f"{len(numbers)} numbers instead of {width or 'some'}",
                    "Each line needs a path and the same count of numbers, that of the encoder's vectors.",
                )
            if name in lines:
                raise wrong(f"{name} stands on line {lines[name]} already", "Remove one of the two.")
            lines[name] = rows.line_num
            vectors[name] = _numbers(numbers, wrong)
    except csv.Error as error:
        raise wrong(f"not a line of CSV ({error})", "Repair or remove it.") from error
    if not vectors:
        raise CaptionlessError(f"{path} is empty. Give a CSV with a line for each picture.")
    return vectors


def _numbers(texts: list[str], wrong: _Wrong) -> Vectors:
    try:
        with np.errstate(over="ignore"):
            vector = np.array(texts, dtype=np.float64).astype(np.float32)
    except ValueError:
        text = next(text for text in texts if not _is_number(text))
        raise wrong(f"{text!r} is not a number", "The file needs numbers after the path, and no header.") from None
    if not np.isfinite(vector).all():
        text = texts[int(np.argmin(np.isfinite(vector)))]
        raise wrong(f"{text!r} is not a finite number", "Embed that picture again.")
    return vector


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
