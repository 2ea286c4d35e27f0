"""Summarise a folder of images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from captionless.data.arrays import read_arrays
from captionless.errors import shorten
from captionless.progress import Progress


def folder_summary(folder: Path, progress: Progress) -> list[tuple[str, str]]:
    """Return the numbers of usable, identical and skipped images in a folder, as (label, text) pairs."""
    found = read_arrays(folder, (), progress=progress)
    folders = sorted({name.rpartition("/")[0] for name in found.names} - {""})
    copies = found.duplicates
    return [
        ("folder", str(folder)),
        ("images", f"{len(found.names):,}"),
        ("sub-folders", f"{len(folders):,}" + (f": {', '.join(shorten(folders, 8))}" if folders else "")),
        ("identical", f"{sum(map(len, copies)):,} files of {len(copies):,} images" if copies else "none"),
        ("skipped", f"{len(found.skipped):,}"),
        *(("", f"{count:,}: {kind}") for kind, count in Counter(file.kind for file in found.skipped).most_common()),
    ]
