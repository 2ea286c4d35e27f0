"""Find the class label of each image, by its sub-folder or in a table."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionless.data.csv_rows import read_rows
from captionless.data.folder import match_names
from captionless.errors import CaptionlessError

FOLDERS = "sub-folders"
"""The source of labels that do not come from a table."""


@dataclass(frozen=True)
class Labels:
    """The labels of a folder's files."""

    source: str  # ``FOLDERS``, or the path of the table
    by_name: Mapping[str, str]  # by file name, relative to the folder; files without a label are left out
    unmatched: tuple[str, ...] = ()  # paths in the table that match no file in the folder, or more than one

    @property
    def missing_reason(self) -> str:
        """The reason why an image has no label, as ``kind: details``."""
        if self.source == FOLDERS:
            return "no label: it is in no sub-folder"
        return f"no label: {self.source} has none for it"


def find_labels(folder: str | Path, names: Sequence[str], source: str = FOLDERS) -> Labels:
    """Find the label of each file: the outermost sub-folder that it is in, or its entry in a table.

    Args:
        folder: the folder of the images.
        names: file names relative to it.
        source: ``FOLDERS``, or the path of a CSV with the columns ``file`` and ``label``.

    Raises:
        CaptionlessError: the table cannot be read, one of its lines is wrong, or there are fewer than 2 classes.
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
    """Raise unless the files called ``names`` have at least 2 different labels."""
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
        f"the sub-folders of {folder} make {found}, and at least 2 sub-folders with images are needed to train on "
        f"`classes`.{inside} Labels can also come from a table: `labels=FILE.csv`."
    )


def read_label_table(path: str | Path) -> dict[str, str]:
    """Read a CSV with the columns ``file`` and ``label`` among others: path → label, which may be empty.

    Raises:
        CaptionlessError: the file cannot be read, one of its lines is wrong, or it has no rows.
    """
    labels: dict[str, str] = {}
    for row in read_rows(path, ("file", "label")):
        name, label = row.values[0], normalise_label(row.values[1])
        if not name:
            raise row.error("the file is missing", "Each line needs a file and its label, separated by a comma.")
        if labels.setdefault(name, label) != label:
            raise row.error(f"an earlier line already labels {name} {labels[name]!r}", "Remove one of the lines.")
    if not labels:
        raise CaptionlessError(f"{path} has no labels. Add a line for each image: its file and its label.")
    return labels


def normalise_label(label: str) -> str:
    """Strip a label and compose its letters (Unicode NFC): file systems spell "é" in two ways."""
    return unicodedata.normalize("NFC", label).strip()
