"""Contact sheets: many pictures at a glance, with a line of words to each row."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN = 8
TEXT_HEIGHT = 18
LABEL_COLOUR = (40, 40, 40)


def contact_sheet(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], cell: int = 128) -> Image.Image:
    """Draw rows of pictures on white, each row under its label.

    Args:
        rows: pictures, a list a row; rows may differ in length.
        labels: one text a row; "" leaves out its line.
        cell: side of a drawn picture in pixels; smaller pictures are enlarged in whole steps where possible.

    Returns:
        An RGB image.
    """
    columns = max(len(row) for row in rows)
    line = TEXT_HEIGHT if any(labels) else 0
    height = MARGIN + len(rows) * (line + cell + MARGIN)
    sheet = Image.new("RGB", (MARGIN + columns * (cell + MARGIN), height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = MARGIN + i * (line + cell + MARGIN)
        if label:
            draw.text((MARGIN, top), _fit(label, sheet.width - 2 * MARGIN, font), LABEL_COLOUR, font)
        for k, picture in enumerate(row):
            sheet.paste(_scaled(picture.convert("RGB"), cell), (MARGIN + k * (cell + MARGIN), top + line))
    return sheet


def _scaled(picture: Image.Image, cell: int) -> Image.Image:
    whole = cell % picture.width == 0 and picture.width < cell
    return picture.resize((cell, cell), Image.Resampling.BICUBIC if whole else Image.Resampling.LANCZOS)


def _fit(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Bring ``text`` onto one line, shortened with an ellipsis until it is at most ``width`` pixels wide."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
