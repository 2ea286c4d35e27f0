"""Find the class label of each image from its sub-folder or from a table."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionless.data.csv_rows import read_rows
from captionless.data.folder import match_names
from captionless.errors import CaptionlessError

FOLDERS = "sub-folders"
"""Source of labels that are the names of sub-folders."""


@dataclass(frozen=True)
class Labels:
    """The labels of a folder's files."""

    source: str  # ``FOLDERS``, or the path of the table
    by_name: Mapping[str, str]  # label of each file, by path relative to the folder; unlabelled files are left out
    unmatched: tuple[str, ...] = ()  # paths in the table that match no file in the folder, or more than one

    @property
    def missing_reason(self) -> str:
        """The reason for skipping an image without a label, as ``kind: details``."""
        if self.source == FOLDERS:
            return "no label: the image is not in a sub-folder"
        return f"no label: {self.source} has no label for the image"


def find_labels(folder: str | Path, names: Sequence[str], source: str = FOLDERS) -> Labels:
    """Find the label of each file: the name of its top-level sub-folder, or its entry in a table.

    Args:
        folder: the folder of the images.
        names: file paths relative to ``folder``.
        source: ``FOLDERS``, or the path of a CSV with the columns ``file`` and ``label``.

    Raises:
        CaptionlessError: the table cannot be read, has an invalid line or matches no file, or there are fewer than 2
            classes.
    """
    if source == FOLDERS:
        by_name = {name: normalise_label(name.split("/")[0]) for name in names if "/" in name}
        labels = Labels(FOLDERS, {name: label for name, label in by_name.items() if label})
    else:
        table = read_label_table(source)
        keys = match_names(names, table, folder)
        if not keys:
            raise CaptionlessError(
                f"{source} contains no path that matches a file in {folder}. Its first path is {next(iter(table))}. "
                "Write paths relative to the folder."
            )
        unmatched = tuple(sorted(set(table) - set(keys.values())))
        labels = Labels(source, {name: table[key] for name, key in keys.items() if table[key]}, unmatched)
    require_two_classes(folder, labels, labels.by_name)
    return labels


def require_two_classes(folder: str | Path, labels: Labels, names: Iterable[str]) -> None:
    """Raise a `CaptionlessError` unless the labels of the files ``names`` form at least 2 classes."""
    classes = sorted({labels.by_name[name] for name in names})
    if len(classes) > 1:
        return
    found = f"only one class ({classes[0]})" if classes else "no class"
    if labels.source != FOLDERS:
        raise CaptionlessError(
            f"{labels.source} assigns {found} to the images in {folder}. Provide at least 2 different labels."
        )
    inside = f" If the classes are inside {Path(folder) / classes[0]}, use that folder." if classes else ""
    raise CaptionlessError(
        f"the sub-folders of {folder} form {found}, but training on `classes` needs at least 2 sub-folders with "
        f"images.{inside} Labels can also be read from a table: `labels=FILE.csv`."
    )


def read_label_table(path: str | Path) -> dict[str, str]:
    """Read a CSV with the columns ``file`` and ``label``; other columns are ignored.

    Returns:
        The label of each path; a label may be empty.

    Raises:
        CaptionlessError: the file cannot be read, has an invalid line, or has no rows.
    """
    labels: dict[str, str] = {}
    for row in read_rows(path, ("file", "label")):
        name, label = row.values[0], normalise_label(row.values[1])
        if not name:
            raise row.error("the file name is empty", "Each line needs a file name and a label, separated by a comma.")
        if labels.setdefault(name, label) != label:
            raise row.error(f"an earlier line gives {name} the label {labels[name]!r}", "Remove one of the two lines.")
    if not labels:
        raise CaptionlessError(f"{path} contains no labels. Add a line with the file name and label of each image.")
    return labels


def normalise_label(label: str) -> str:
    """Strip whitespace and normalise a label to Unicode NFC, because file systems encode "é" in two ways."""
    return unicodedata.normalize("NFC", label).strip()
