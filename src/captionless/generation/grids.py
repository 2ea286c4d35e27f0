"""Contact sheets: many pictures at a glance, with words to each row or each picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MARGIN = 8
TEXT_HEIGHT = 18
LABEL_COLOUR = (40, 40, 40)
LINE_HEIGHT = 14
MAX_LINES = 5
"""Of a label under a single picture."""


def sample_grid(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], cell: int = 128, heads: Sequence[str] = ()
) -> Image.Image:
    """Draw rows of pictures on white, each row under its label.

    Args:
        rows: pictures, a list a row; rows may differ in length.
        labels: one text a row; "" leaves out its line.
        cell: side of a drawn picture in pixels; smaller pictures are enlarged in whole steps where possible.
        heads: one text a column, over all rows; none leaves out the line.

    Returns:
        An RGB image.
    """
    columns = max(len(row) for row in rows)
    line, head = TEXT_HEIGHT if any(labels) else 0, TEXT_HEIGHT if heads else 0
    height = MARGIN + head + len(rows) * (line + cell + MARGIN)
    sheet = Image.new("RGB", (MARGIN + columns * (cell + MARGIN), height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    lefts = [MARGIN + k * (cell + MARGIN) for k in range(columns)]
    for left, text in zip(lefts, heads, strict=bool(heads)):
        draw.text((left, MARGIN // 2), _fit(text, cell, font), LABEL_COLOUR, font)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = MARGIN + head + i * (line + cell + MARGIN)
        if label:
            draw.text((MARGIN, top), _fit(label, sheet.width - 2 * MARGIN, font), LABEL_COLOUR, font)
        for left, picture in zip(lefts, row, strict=False):
            sheet.paste(scaled(picture.convert("RGB"), cell), (left, top + line))
    return sheet


def labelled_grid(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int, cell: int = 128) -> Image.Image:
    """Draw pictures on white, ``columns`` a row, each over its own label in small letters.

    Args:
        pictures: at least one.
        labels: one text a picture, on as many lines as it needs, up to ``MAX_LINES``.
        columns: pictures a row.
        cell: side of a drawn picture in pixels.

    Returns:
        An RGB image.
    """
    font = ImageFont.load_default(11)
    wrapped = [_wrap(label, cell, font) for label in labels]
    starts = range(0, len(pictures), columns)
    heights = [cell + LINE_HEIGHT * max(map(len, wrapped[i : i + columns])) + MARGIN for i in starts]
    width = MARGIN + min(columns, len(pictures)) * (cell + MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, lines) in enumerate(zip(pictures, wrapped, strict=True)):
        left, top = MARGIN + i % columns * (cell + MARGIN), MARGIN + sum(heights[: i // columns])
        sheet.paste(scaled(picture.convert("RGB"), cell), (left, top))
        for k, line in enumerate(lines):
            draw.text((left, top + cell + k * LINE_HEIGHT), line, LABEL_COLOUR, font)
    return sheet


def scaled(picture: Image.Image, cell: int) -> Image.Image:
    """Return a square picture with sides of ``cell`` pixels."""
    whole = cell % picture.width == 0 and picture.width < cell
    return picture.resize((cell, cell), Image.Resampling.BICUBIC if whole else Image.Resampling.LANCZOS)


def _wrap(text: str, width: int, font: Font) -> list[str]:
    """Break ``text`` into lines of at most ``width`` pixels, between words where it can be; then shorten the last."""
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
    """Bring ``text`` onto one line, shortened with an ellipsis until it is at most ``width`` pixels wide."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    kept = bisect_right(range(len(text)), width, key=lambda i: ceil(font.getlength(text[:i] + "…"))) - 1
    return text[: max(0, kept)] + "…"
