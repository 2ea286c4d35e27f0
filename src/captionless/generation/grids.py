"""Sample grids: draw several images as one image, with labels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from PIL import Image, ImageDraw

from captionless.errors import CaptionlessError
from captionless.generation.fonts import Font, lettering
from captionless.generation.image import GeneratedImage

AnyImage = Image.Image | GeneratedImage

MARGIN = 8
TEXT_HEIGHT = 18
LARGE, SMALL = 13, 11
"""Sizes of the letters above rows and columns, and below images."""
LABEL_COLOUR = (40, 40, 40)
LINE_HEIGHT = 14
MAX_LINES = 5
"""Maximum number of lines of a label under an image."""


def sample_grid(
    images: Sequence[AnyImage] | Sequence[Sequence[AnyImage]],
    labels: Sequence[str] | None = None,
    cell: int | None = None,
    heads: Sequence[str] = (),
    columns: int = 8,
) -> Image.Image:
    """Draw images in a labelled grid on a white background.

        sample_grid(generator.generate(["a rose", "a daisy"], n=4))

    Args:
        images: ``GeneratedImage`` or PIL images in reading order, or a list of rows, which may differ in length.
        labels: one text per image, drawn below it. If ``images`` are rows, one text per row, drawn above it. An empty
            text draws no label. The default labels are the prompts of generated images; PIL images have no default.
        cell: side length in pixels at which images are drawn; by default that of the first image, but at least 128.
        heads: column headings, only if ``images`` are rows.
        columns: number of images per row, unless ``images`` are rows.

    Returns:
        An RGB image.

    Raises:
        CaptionlessError: ``images`` is empty.
        ValueError: the number of labels or heads does not match the images.
    """
    flat: list[AnyImage] = []
    rows: list[list[AnyImage]] = []
    for one in images:
        flat.append(one) if isinstance(one, AnyImage) else rows.append(list(one))
    if not flat and not any(rows):
        raise CaptionlessError(
            "a sample grid needs at least 1 image, but `images` is empty.", parameter="images", value=images
        )
    if flat and labels is None:
        rows = _rows_by_title(flat, columns)
        if max(map(len, rows)) == 1:
            labels = [_title(one) for one in flat]
    captions: Sequence[str] = [""] * len(flat)
    if flat and labels is not None:
        rows = [flat[i : i + columns] for i in range(0, len(flat), columns)]
        captions, labels = [label for _, label in zip(flat, labels, strict=True)], [""] * len(rows)
    if labels is None:
        titles = [_title(row[0]) if row else "" for row in rows]
        labels = [title if title != before else "" for before, title in zip(["", *titles], titles, strict=False)]
    pictures = [[one.image if isinstance(one, GeneratedImage) else one for one in row] for row in rows]
    cell = cell or max(128, next(filter(None, pictures))[0].width)
    return _draw(pictures, cell, labels, heads, captions or [""] * sum(map(len, rows)))


def _rows_by_title(images: Sequence[AnyImage], columns: int) -> list[list[AnyImage]]:
    """Arrange images in rows of at most ``columns`` images; each new title starts a new row."""
    groups = [list(group) for _, group in groupby(images, key=_title)]
    return [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]


def _title(one: AnyImage) -> str:
    return one.title if isinstance(one, GeneratedImage) else ""


def _draw(
    rows: Sequence[Sequence[Image.Image]],
    cell: int,
    labels: Sequence[str],
    heads: Sequence[str],
    captions: Sequence[str],
) -> Image.Image:
    """Draw rows of images with a heading above each column, a label above each row and a caption below each image."""
    wrapped = iter([_wrap(text, cell) for text in captions])
    under = [[next(wrapped) for _ in row] for row in rows]
    line, head = TEXT_HEIGHT if any(labels) else 0, TEXT_HEIGHT if heads else 0
    heights = [line + cell + LINE_HEIGHT * max(map(len, texts), default=0) + MARGIN for texts in under]
    width = MARGIN + max(map(len, rows)) * (cell + MARGIN)
    grid = Image.new("RGB", (width, MARGIN + head + sum(heights)), "white")
    draw = ImageDraw.Draw(grid)
    lefts = range(MARGIN, width, cell + MARGIN)
    for left, text in zip(lefts, heads, strict=bool(heads)):
        _label(draw, (left, MARGIN // 2), text, cell)
    top = MARGIN + head
    for row, label, texts, height in zip(rows, labels, under, heights, strict=True):
        _label(draw, (MARGIN, top), label, width - 2 * MARGIN)
        for left, image, lines in zip(lefts, row, texts, strict=False):
            grid.paste(resize_to_cell(image.convert("RGB"), cell), (left, top + line))
            for k, text in enumerate(lines):
                _label(draw, (left, top + line + cell + k * LINE_HEIGHT), text, cell, SMALL)
        top += height
    return grid


def resize_to_cell(image: Image.Image, cell: int) -> Image.Image:
    """Resize a square image to ``cell`` x ``cell`` pixels."""
    whole = cell % image.width == 0 and image.width < cell
    return image.resize((cell, cell), Image.Resampling.BICUBIC if whole else Image.Resampling.LANCZOS)


def _label(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, size: int = LARGE) -> None:
    """Draw a label of at most ``width`` pixels."""
    font, text = lettering(" ".join(text.split()), size)
    draw.text(place, _fit(text, width, font), LABEL_COLOUR, font)


def _wrap(text: str, width: int) -> list[str]:
    """Wrap ``text`` into at most ``MAX_LINES`` lines of ``width`` pixels, of which a character has at least 6."""
    font, text = lettering(" ".join(text.split()), SMALL)
    share = max(6.0, font.getlength(text) / max(1, len(text)))
    return textwrap.wrap(text, max(2, int(width / share)), max_lines=MAX_LINES, placeholder="…")


def _fit(text: str, width: int, font: Font) -> str:
    """Truncate ``text`` with an ellipsis to at most ``width`` pixels."""
    kept = text
    while kept and font.getlength(text) > width:
        kept = kept[:-1]
        text = kept + "…"
    return text
