"""Choose fonts for the labels of images; Pillow's own has ASCII only."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from PIL import ImageFont

from captionless.files import remark_once

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc"),  # Linux
    *("arial.ttf", "msyh.ttc", "malgun.ttf", "seguisym.ttf"),  # Windows
    *("Arial Unicode.ttf", "AppleSDGothicNeo.ttc"),  # macOS
)
"""Files with the letters of many languages, which Pillow looks for in the system's font folders."""


def lettering(text: str, size: int) -> tuple[Font, str]:
    """Return a font with as many characters of a text as possible, and the text with the others spelled out.

    A letter with an accent is spelled without it, a symbol such as an emoji as its name in parentheses, any other
    character as its code; a remark tells that once.

    Args:
        text: one line.
        size: size of the font in pixels.
    """
    lacking = {font: "".join(c for c in dict.fromkeys(text) if not _has(font, c)) for font in _fonts(size, text)}
    font = min(lacking, key=lambda font: len(lacking[font]))
    if lost := lacking[font]:
        remark_once(
            "font",
            f"this system has no font for {lost[:20]}: labels in images spell such characters out. Install a font that "
            "has them, such as Noto Sans CJK for Chinese, Japanese and Korean.",
        )
    return font, "".join(_spelled(c) if c in lost else c for c in text)


def _fonts(size: int, text: str) -> Iterator[Font]:
    """Yield Pillow's own font and, if it lacks characters of the text, those of the system."""
    own = _font("", size)
    assert own is not None
    yield own
    if not all(_has(own, c) for c in text):
        yield from filter(None, (_font(name, size) for name in SYSTEM_FONTS))


@cache
def _font(name: str, size: int) -> Font | None:
    with suppress(OSError):
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    return None


@cache
def _has(font: Font, character: str) -> bool:
    """Return whether a font draws a character otherwise than one that does not exist (U+10FFFF)."""
    if character.isascii():
        return True
    drawn, missing = (font.getmask(one) for one in (character, "\U0010ffff"))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


def _spelled(character: str) -> str:
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    if kind in ("Mn", "Cf", "Sk"):  # marks that only change how the character before them looks
        return ""
    if plain := unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode():
        return plain
    return f"({name.lower()})" if name and kind[0] in "PS" else ascii(character)[1:-1]
