"""The settings of reading images, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from PIL import ImageColor
from pydantic import AfterValidator

from captionless.config.base import setting
from captionless.errors import harmless


def _checked(colour: str) -> str:
    try:
        ImageColor.getrgb(colour)
    except ValueError:
        raise ValueError(
            f"`background={harmless(colour)}` is not a colour. Pass a name or #rrggbb, such as `background=black`."
        ) from None
    return colour


Source = Annotated[str | Path, AfterValidator(lambda source: source if "://" in str(source) else Path(source))]
"""A folder of images, an archive, a pattern such as ``*.tar``, or a URL."""
Colour = Annotated[str, AfterValidator(_checked)]
BACKGROUND: Any = setting("white", "Colour behind transparent images, as a name or #rrggbb.", example="black")
VERIFY: Any = setting(
    False, "Read every image file again, even if its size and time of change are those of an earlier run."
)
