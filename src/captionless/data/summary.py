"""Summarise a folder of images: numbers, sizes, transparency, and what is done to unusual images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from captionless.data.arrays import read_arrays
from captionless.data.images import ImageFile, sample_entries
from captionless.errors import shorten
from captionless.progress import Progress


@dataclass(frozen=True)
class FolderFacts:
    """What kind of images a folder holds."""

    images: int  # number of images that the facts are based on
    shorter_side: int  # median of the shorter sides in pixels; large JPEGs may count with a fraction of theirs
    transparent: float  # share of the images with transparency, 0 to 1
    pixel_art: float  # share of the images that are small and drawn pixel by pixel


def facts(images: Sequence[ImageFile]) -> FolderFacts:
    """Return the facts about one or more images."""
    return FolderFacts(
        len(images),
        int(median(min(image.width, image.height) for image in images)),
        sum(image.transparent for image in images) / len(images),
        sum(image.pixel_art for image in images) / len(images),
    )


def sample_facts(folder: str | Path, count: int = 48) -> FolderFacts:
    """Return the facts about a deterministic sample of a folder's images.

    Raises:
        CaptionlessError: the folder cannot be read, or has no usable image.
    """
    return facts(list(sample_entries(folder, count)))


def image_remarks(images: Sequence[ImageFile], size: int, background: str) -> list[str]:
    """Return a sentence about each kind of image that squares of ``size`` pixels show in a special way."""
    small = [image for image in images if min(image.width, image.height) < size]
    drawn = sum(image.pixel_art for image in small)
    transparent = sum(image.transparent for image in images)
    remarks = {
        f"{_are(transparent)} partly transparent, shown on {background} (`background` sets another).": transparent,
        f"{_are(drawn)} pixel art smaller than {size} px, enlarged by a whole factor.": drawn,
        f"{_are(len(small) - drawn)} smaller than {size} px, enlarged smoothly.": len(small) - drawn,
    }
    return [remark for remark, count in remarks.items() if count]


def _are(count: int) -> str:
    return f"{count:,} image is" if count == 1 else f"{count:,} images are"


def folder_summary(folder: Path, progress: Progress) -> list[tuple[str, str]]:
    """Return the numbers of usable, identical and skipped images in a folder, as (label, text) pairs."""
    found = read_arrays(folder, (), progress=progress)
    folders = sorted({name.rpartition("/")[0] for name in found.names} - {""})
    copies, about = found.duplicates, facts(found.images)
    return [
        ("folder", str(folder)),
        ("images", f"{len(found.names):,}"),
        ("shorter side", f"{about.shorter_side:,} px (median; large JPEGs may count with a fraction of theirs)"),
        ("transparent", f"{about.transparent:.0%}"),
        ("pixel art", f"{about.pixel_art:.0%}"),
        ("sub-folders", f"{len(folders):,}" + (f": {', '.join(shorten(folders, 8))}" if folders else "")),
        ("identical", f"{sum(map(len, copies)):,} files of {len(copies):,} images" if copies else "none"),
        ("skipped", f"{len(found.skipped):,}"),
        *(("", f"{count:,}: {kind}") for kind, count in Counter(file.kind for file in found.skipped).most_common()),
    ]
