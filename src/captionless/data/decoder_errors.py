"""Tell damage from bugs: what decoders raise on damaged content becomes the reason why an image cannot be used.

Only calls into Pillow and its plug-ins stand inside `decoder`. An exception of our own code passes: it is a bug.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageCms, UnidentifiedImageError

from captionless.data.formats import UnusableError

MAX_PIXELS = 100_000_000
"""Images with more pixels are rejected, as a protection against decompression bombs."""
DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(RuntimeError, AssertionError, BufferError, struct.error, zlib.error, ImageCms.PyCMSError),
    Image.DecompressionBombError,
)
"""What Pillow and its plug-ins raise on damaged content."""


@contextmanager
def decoder() -> Iterator[None]:
    """Convert what a decoder raises on damaged content into an `UnusableError` that says why."""
    try:
        yield
    except DAMAGE as error:
        raise UnusableError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, UnidentifiedImageError):
        return "damaged: its header cannot be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than {MAX_PIXELS:,} pixels"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated: the end of the file is missing"
    return f"damaged: {text or type(error).__name__}"
