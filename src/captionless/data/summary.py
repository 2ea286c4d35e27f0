"""Describe a folder of images in a few lines."""

from __future__ import annotations

from pathlib import Path

from captionless.data.folder import find_images
from captionless.data.images import ImageFile, SkippedFile, count_reasons, find_duplicates, read_folder
from captionless.errors import shorten
from captionless.progress import Progress

MAX_FOLDERS = 8
"""Sub-folders that are named."""


def folder_summary(folder: Path, progress: Progress) -> list[tuple[str, str]]:
    """Return how many images a folder holds, which are identical and what was skipped, as pairs of label and text."""
    files = find_images(folder)
    entries: list[ImageFile | SkippedFile] = []
    for entry in read_folder(folder, files=files):
        entries.append(entry)
        progress.advance("Reading images", len(entries), len(files))
    images = [entry for entry in entries if isinstance(entry, ImageFile)]
    skipped = [entry for entry in entries if isinstance(entry, SkippedFile)]
    folders = sorted({image.name.rpartition("/")[0] for image in images} - {""})
    copies = find_duplicates(images)
    return [
        ("folder", str(folder)),
        ("images", f"{len(images):,}"),
        ("sub-folders", f"{len(folders):,}" + (f": {', '.join(shorten(folders, MAX_FOLDERS))}" if folders else "")),
        ("identical", f"{sum(map(len, copies)):,} files of {len(copies):,} images" if copies else "none"),
        ("skipped", f"{len(skipped):,}"),
        *(("", f"{count:,}: {reason}") for reason, count in count_reasons(skipped).items()),
    ]
