"""Sample grids: many images on one, with a label per row or per image."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from math import ceil

from PIL import Image, ImageDraw, ImageFont

from captionless.errors import CaptionlessError
from captionless.generation.image import GeneratedImage

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
AnyImage = Image.Image | GeneratedImage

MARGIN = 8
TEXT_HEIGHT = 18
LABEL_COLOUR = (40, 40, 40)
LINE_HEIGHT = 14
MAX_LINES = 5
"""Lines of a label under a single image."""


def sample_grid(
    images: Sequence[AnyImage] | Sequence[Sequence[AnyImage]],
    labels: Sequence[str] | None = None,
    cell: int | None = None,
    heads: Sequence[str] = (),
    columns: int = 8,
) -> Image.Image:
    """Draw images in a grid on white, with labels.

        sample_grid(generator.generate(["a rose", "a daisy"], n=4))

    Args:
        images: images in reading order, or rows of images, which may differ in length. ``GeneratedImage`` or PIL.
        labels: one text per image, drawn under it; for rows, one text per row, drawn above it ("" for none). By
            default the prompts of generated images, and nothing for PIL images.
        cell: side of a drawn image in pixels; by default that of the first image, but at least 128.
        heads: for rows, one text above each column.
        columns: images per row, unless ``images`` are rows.

    Returns:
        An RGB image.

    Raises:
        CaptionlessError: there is no image.
        ValueError: the number of labels or heads does not fit.
    """
    flat: list[AnyImage] = []
    rows: list[list[AnyImage]] = []
    for one in images:
        flat.append(one) if isinstance(one, AnyImage) else rows.append(list(one))
    if not flat and not any(rows):
        raise CaptionlessError("a sample grid needs at least 1 image.", parameter="images", value=images)
    if flat and labels is None:
        rows = rows_by_title(flat, columns)
        if max(map(len, rows)) == 1:
            rows, labels = [], [_title(one) for one in flat]
    if labels is None:
        titles = [_title(row[0]) if row else "" for row in rows]
        labels = [title if title != before else "" for before, title in zip(["", *titles], titles, strict=False)]
    first = (flat or next(filter(None, rows)))[0]
    cell = cell or max(128, _picture(first).width)
    if rows:
        return _labelled_rows([[_picture(one) for one in row] for row in rows], labels, cell, heads)
    return _labelled_images([_picture(one) for one in flat], labels, columns, cell)


def rows_by_title(images: Sequence[AnyImage], columns: int) -> list[list[AnyImage]]:
    """Arrange images in rows of at most ``columns``; a new title (of generated images) begins a new row."""
    rows: list[list[AnyImage]] = []
    for _, group in groupby(images, key=_title):
        same = list(group)
        rows += [same[at : at + columns] for at in range(0, len(same), columns)]
    return rows


def _title(one: AnyImage) -> str:
    return one.title if isinstance(one, GeneratedImage) else ""


def _picture(one: AnyImage) -> Image.Image:
    return one.image if isinstance(one, GeneratedImage) else one


def _labelled_rows(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], cell: int, heads: Sequence[str]
) -> Image.Image:
    """Draw rows of images, each below its label."""
    columns = max(len(row) for row in rows)
    line, head = TEXT_HEIGHT if any(labels) else 0, TEXT_HEIGHT if heads else 0
    height = MARGIN + head + len(rows) * (line + cell + MARGIN)
    grid = Image.new("RGB", (MARGIN + columns * (cell + MARGIN), height), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(13)
    lefts = [MARGIN + k * (cell + MARGIN) for k in range(columns)]
    for left, text in zip(lefts, heads, strict=bool(heads)):
        draw.text((left, MARGIN // 2), _fit(text, cell, font), LABEL_COLOUR, font)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = MARGIN + head + i * (line + cell + MARGIN)
        if label:
            draw.text((MARGIN, top), _fit(label, grid.width - 2 * MARGIN, font), LABEL_COLOUR, font)
        for left, image in zip(lefts, row, strict=False):
            grid.paste(scaled(image.convert("RGB"), cell), (left, top + line))
    return grid


def _labelled_images(images: Sequence[Image.Image], labels: Sequence[str], columns: int, cell: int) -> Image.Image:
    """Draw images in rows of ``columns``, each above its own label in small letters."""
    font = ImageFont.load_default(11)
    wrapped = [_wrap(label, cell, font) for label in labels]
    starts = range(0, len(images), columns)
    heights = [cell + LINE_HEIGHT * max(map(len, wrapped[i : i + columns])) + MARGIN for i in starts]
    width = MARGIN + min(columns, len(images)) * (cell + MARGIN)
    grid = Image.new("RGB", (width, MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(grid)
    for i, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        left, top = MARGIN + i % columns * (cell + MARGIN), MARGIN + sum(heights[: i // columns])
        grid.paste(scaled(image.convert("RGB"), cell), (left, top))
        for k, line in enumerate(lines):
            draw.text((left, top + cell + k * LINE_HEIGHT), line, LABEL_COLOUR, font)
    return grid


def scaled(image: Image.Image, cell: int) -> Image.Image:
    """Resize a square image to sides of ``cell`` pixels."""
    whole = cell % image.width == 0 and image.width < cell
    return image.resize((cell, cell), Image.Resampling.BICUBIC if whole else Image.Resampling.LANCZOS)


def _wrap(text: str, width: int, font: Font) -> list[str]:
    """Break ``text`` into lines of at most ``width`` pixels, between words if possible; shorten the last line."""
    rest = " ".join(text.split())
    lines: list[str] = []
    while rest and len(lines) < MAX_LINES - 1:
        fitting = next((i for i in range(1, len(rest)) if font.getlength(rest[: i + 1]) > width), len(rest))
        at = fitting if fitting == len(rest) or rest[fitting] == " " else rest.rfind(" ", 0, fitting)
        at = at if at > 0 else fitting
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return [*lines, _fit(rest, width, font)] if rest else lines


def _fit(text: str, width: int, font: Font) -> str:
    """Put ``text`` on one line and shorten it with an ellipsis until it is at most ``width`` pixels wide."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    kept = bisect_right(range(len(text)), width, key=lambda i: ceil(font.getlength(text[:i] + "…"))) - 1
    return text[: max(0, kept)] + "…"
