"""Read and write image vectors as CSV files without a header; each line contains an image path and a vector."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionless.data.csv_rows import guarded, read_rows
from captionless.data.folder import match_names
from captionless.errors import CaptionlessError, shorten
from captionless.files import atomic_write, require_file
from captionless.text_files import read_lines

Vectors = NDArray[np.float32]


def write_vectors(path: str | Path, names: Sequence[str], vectors: Vectors) -> None:
    """Write one line per image with its name and vector, with enough digits to restore the float32 values exactly.

    Args:
        path: the file to write.
        names: names of the n images.
        vectors: their vectors, (n, width).

    Raises:
        CaptionlessError: the file cannot be written, or `check_replaceable` raises.
    """
    check_replaceable(path)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for name, vector in zip(names, vectors, strict=True):
            writer.writerow([guarded(name), *(f"{number:.9g}" for number in vector.tolist())])


def check_replaceable(path: str | Path) -> None:
    """Raise if a path leads to something that is not a table of vectors, which a table would replace."""
    target = require_file(path)
    if not target.exists() or not target.stat().st_size:
        return
    try:
        numbers = [float(cell) for cell in next(csv.reader(read_lines(target)))[1:]]
        ours = abs(math.hypot(*numbers) - 1) < 1e-3 and any(number % 1 for number in numbers)
    except (OSError, ValueError, IndexError, csv.Error, StopIteration):
        ours = False
    if not ours:  # not any table of names and numbers, such as one of labels
        raise CaptionlessError(
            f"{path} exists and is no table of vectors, so it is not replaced. Choose another file.",
            code="cannot_write",
        )


def read_vectors(path: str | Path, width: int) -> dict[str, Vectors]:
    """Read a file written by `write_vectors`; return the vector of each path, float32 (width,).

    Raises:
        CaptionlessError: the file cannot be read, has an invalid line, or is empty.
    """
    vectors: dict[str, Vectors] = {}
    for row in read_rows(path):
        name, *numbers = row.values
        if name in vectors:
            raise row.error(f"an earlier line already has {name}", "Remove one of the two lines.")
        if len(numbers) != width:
            raise row.error(
                f"{len(numbers)} numbers instead of {width}",
                "Each line needs a path and a vector of the encoder's width.",
            )
        try:
            with np.errstate(over="ignore"):
                vectors[name] = np.array(numbers, dtype=np.float64).astype(np.float32)
        except ValueError as error:
            raise row.error(str(error), "Only numbers may follow the path, and a header is not allowed.") from error
        if not (np.isfinite(vectors[name]).all() and vectors[name].any()):
            raise row.error("the vector is zero or not finite", "Embed the image again.")
    if not vectors:
        raise CaptionlessError(f"{path} is empty. Provide a CSV file with one line per image.")
    return vectors


def match_vectors(table: Mapping[str, Vectors], names: Sequence[str], folder: str | Path) -> Vectors:
    """Return the unit vectors of a folder's images, (n, width).

    Args:
        table: vectors by path. Paths may be relative to the folder, absolute, or bare file names if these are
            unambiguous. Paths that match no image cause a warning.
        names: names of the n images, relative to the folder.
        folder: the folder of the images.

    Raises:
        CaptionlessError: an image has no vector.
    """
    keys = match_names(names, table, folder)
    if missing := [name for name in names if name not in keys]:
        raise CaptionlessError(
            f"the table has no vector for some images of {folder}: {', '.join(shorten(missing, 3))}. Add a line for "
            "each of them, with the path as shown here, or omit the table to embed the folder."
        )
    if unused := table.keys() - set(keys.values()):
        warnings.warn(
            f"{len(unused)} vectors in the table match no image in {folder}, for example {min(unused)}", stacklevel=2
        )
    vectors = np.stack([table[keys[name]] for name in names])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = np.where(abs(lengths - 1) < 1e-3, vectors, vectors / lengths)
    return scaled
