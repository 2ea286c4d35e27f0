"""Classes in place of words: each picture's label, from its sub-folder or from a table. Imports no torch by itself."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from captionless.data.folder import match_names
from captionless.errors import CaptionlessError

FOLDERS = "sub-folders"
"""The source of labels that no table gives."""
HEADER = ("file", "label")

_Wrong = Callable[[str, str], CaptionlessError]


@dataclass(frozen=True)
class Labels:
    """The labels of a folder's files.

    Args:
        source: ``FOLDERS``, or the table's path.
        by_name: label by file name (relative to the folder, forward slashes); files without one are left out.
        unmatched: paths that the table labels and that fit no file of the folder, or several.
    """

    source: str
    by_name: Mapping[str, str]
    unmatched: tuple[str, ...] = ()

    @property
    def missing_reason(self) -> str:
        """Why a picture has no label, for people: its kind, and after a colon the details."""
        if self.source == FOLDERS:
            return "no label: it lies in no sub-folder"
        return f"no label: {self.source} gives it none"


def find_labels(folder: str | Path, names: Sequence[str], source: str = FOLDERS) -> Labels:
    """Return the label of each file: the sub-folder of ``folder`` it lies in, at any depth, or what the table says.

    Args:
        folder: of the pictures.
        names: of its files, relative to it.
        source: ``FOLDERS``, or the path of a CSV with the columns ``file`` and ``label``.

    Raises:
        CaptionlessError: the table is missing or wrong (the message names the line), or there are fewer than 2 classes.
    """
    if source == FOLDERS:
        by_name = {name: normalise_label(name.split("/")[0]) for name in names if "/" in name}
        labels = Labels(FOLDERS, {name: label for name, label in by_name.items() if label})
    else:
        rows = read_label_table(source)
        keys = match_names(names, rows, folder)
        unmatched = tuple(sorted(set(rows) - set(keys.values())))
        labels = Labels(source, {name: rows[key] for name, key in keys.items() if rows[key]}, unmatched)
        if not keys:
            raise CaptionlessError(
                f"{source} names no file of {folder}: its first is {next(iter(rows))}, the folder's first is "
                f"{next(iter(names), 'missing')}. Write each path as it is inside the folder."
            )
    require_two_classes(folder, labels, labels.by_name)
    return labels


def require_two_classes(folder: str | Path, labels: Labels, names: Mapping[str, str] | Sequence[str]) -> None:
    """Raise unless the files called ``names`` have at least 2 different labels among them."""
    classes = sorted({labels.by_name[name] for name in names})
    if len(classes) > 1:
        return
    found = f"only one class ({classes[0]})" if classes else "no class"
    if labels.source != FOLDERS:
        raise CaptionlessError(
            f"{labels.source} gives the pictures of {folder} {found}. Label at least 2 kinds of pictures in it."
        )
    inside = f" If the classes are inside {Path(folder) / classes[0]}, name that folder." if classes else ""
    raise CaptionlessError(
        f"the sub-folders of {folder} make {found}, and --classes needs at least 2 of them with pictures.{inside} "
        "Labels may also come from a table: --labels FILE.csv."
    )


def read_label_table(path: str | Path) -> dict[str, str]:
    """Read a CSV with the columns ``file`` and ``label`` (others are passed over): path → label, which may be empty.

    Raises:
        CaptionlessError: there is no such file, or a line is wrong; the message names it.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(file, path)
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"{path} is not text in UTF-8. Save it as CSV in UTF-8.") from error
    except OSError as error:
        raise CaptionlessError(f"cannot read --labels {path}: {error.strerror or error}. Check the path.") from error


def _read_rows(file: TextIO, path: str | Path) -> dict[str, str]:
    rows = csv.reader(file, strict=True)

    def wrong(what: str, remedy: str) -> CaptionlessError:
        return CaptionlessError(f"{path}, line {max(1, rows.line_num)}: {what}. {remedy}")

    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        columns = _columns(next(rows, []), wrong)
        for row in filter(None, rows):
            if len(row) <= max(columns):
                raise wrong("the label is missing", "Each line needs a file and its label, with a comma between.")
            name, label = row[columns[0]].strip(), normalise_label(row[columns[1]])
            if not name:
                raise wrong("the file is missing", "Each line needs a file and its label, with a comma between.")
            if labels.setdefault(name, label) != label:
                raise wrong(f"{name} is {labels[name]!r} on line {lines[name]} already", "A picture has one label.")
            lines.setdefault(name, rows.line_num)
    except csv.Error as error:
        raise wrong(f"not a line of CSV ({error})", "Repair or remove it.") from error
    if not labels:
        raise CaptionlessError(f"{path} labels nothing. Add a line for each picture: its file and its label.")
    return labels


def _columns(header: Sequence[str], wrong: _Wrong) -> tuple[int, int]:
    names = [name.strip().lower() for name in header]
    if missing := [name for name in HEADER if name not in names]:
        found = ",".join(header)[:60] or "nothing"
        raise wrong(f"the header lacks {' and '.join(missing)} (it is {found})", "The first line must be: file,label")
    return names.index(HEADER[0]), names.index(HEADER[1])


def normalise_label(label: str) -> str:
    """Return a label without outer whitespace, its letters composed: file systems spell "é" in two ways."""
    return unicodedata.normalize("NFC", label).strip()
