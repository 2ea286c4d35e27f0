"""Decode the bytes of an image file into an upright RGB image with 8 bits per channel."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageColor, ImageOps

from captionless.data.colour import to_rgb
from captionless.data.decoder_errors import DAMAGE, MAX_PIXELS, decoder
from captionless.data.decoder_output import captured
from captionless.data.formats import HEAD, UnusableError, image_format, unsupported
from captionless.data.metadata import essential_jpeg, essential_png, jpeg2000_profile
from captionless.data.stored import File
from captionless.data.tiff import BITS, PHOTOMETRIC, TiffTags, float_image
from captionless.errors import CaptionlessError

BACKGROUND = "white"
"""Default background colour of transparent images."""
MAX_BYTES = 500_000_000
"""Files with more bytes are rejected, because each file is read into memory completely."""
MAX_SIDE = 1_000_000
"""Images with a longer side are rejected, because every row takes memory of its own."""
_PNG_HEADER = 33
"""Bytes of the signature of a PNG and its first chunk, IHDR (PNG specification, sections 5.2 and 11.2.1)."""
DECODING = 2
"""Version of the pixels that files are decoded to; part of the key of everything that is cached about them."""


def decode_image(source: str | Path | bytes, background: str = BACKGROUND) -> Image.Image:
    """Decode an image file into an upright RGB image with 8 bits per channel.

    The format is told from the content. The EXIF orientation is applied, images with an embedded colour profile
    (including CMYK) are converted to sRGB, 16-bit grey and floating-point numbers are scaled to 8 bits, transparent
    images are composited over ``background``, and only the first frame of an animation is used.

    Args:
        source: the path or the content of an image file.
        background: a colour name or #rrggbb.

    Raises:
        CaptionlessError: the file cannot be read or decoded, or the colour is unknown.
    """
    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else read_bytes(Path(os.path.expanduser(source)))
    except UnusableError as error:
        raise CaptionlessError(f"cannot use {name}: {error}. Choose another image.") from error
    image, notes = decode_quietly(data)
    for note in notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    if isinstance(image, str):
        raise CaptionlessError(f"cannot use {name}: {image}. Choose another image.")
    return flatten(image, background)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the red, green and blue (0 to 255) of a colour name or #rrggbb.

    Raises:
        CaptionlessError: the colour is unknown.
    """
    try:
        red, green, blue = ImageColor.getrgb(colour)[:3]
    except ValueError as error:
        raise CaptionlessError(f"there is no colour {colour}. Pass a colour name or #rrggbb.") from error
    return red, green, blue


def flatten(image: Image.Image, background: str = BACKGROUND) -> Image.Image:
    """Composite an RGBA image over a background colour; an RGB image is returned as it is."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (*rgb(background), 255)), image).convert("RGB")


def decode_quietly(
    data: bytes, at_least: int = 0, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image | str, tuple[str, ...]]:
    """Decode as in `decode_image`, but without raising exceptions, writing to the terminal or removing transparency.

    Args:
        data: the content of an image file.
        at_least: if not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (much faster), as long as both
            sides keep at least twice this many pixels.
        max_pixels: images with more pixels are rejected.

    Returns:
        The image, in RGBA if a part of it is transparent, else in RGB, or the reason why it could not be decoded; and
        the warnings of the decoder.
    """
    result: Image.Image | str
    with captured(stderr=data[:2] in (b"II", b"MM")) as notes:  # only libtiff writes to stderr
        try:
            result = _decode(data, at_least, max_pixels)
        except UnusableError as error:
            result = str(error)
        except MemoryError:
            result = "too large: there is not enough memory to decode it"
    return result, tuple(notes)


def read_bytes(path: File, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of an image file; of any other file only the beginning is read.

    Raises:
        UnusableError: the file cannot be read, is empty or too large, or its format is not supported.
    """
    try:
        if path.is_dir():
            raise UnusableError("cannot be read: the folder cannot be listed")
        with _opened_file(path) as file:
            head = file.read(HEAD)
            image_format(head)
            data = head + file.read(max(0, max_bytes + 1 - len(head)))
            if len(data) > max_bytes:
                raise UnusableError(f"too large: {path.stat().st_size:,} bytes, the limit is {max_bytes:,}")
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or error}") from error
    return data


def _opened_file(path: File) -> IO[bytes]:
    try:
        return path.open("rb")
    except ValueError as error:  # a zero byte in the path
        raise UnusableError(f"cannot be read: {error}") from error


def _decode(data: bytes, at_least: int, max_pixels: int) -> Image.Image:
    with _opened(data, image_format(data[:HEAD]), max_pixels) as image:
        if max(image.size) > MAX_SIDE or image.width * image.height > max_pixels:
            limits = f"the limit is {max_pixels:,}, and {MAX_SIDE:,} a side"
            raise UnusableError(f"too large: {image.width} x {image.height} pixels, {limits}")
        with decoder():
            if at_least:
                image.draft(None, (2 * at_least, 2 * at_least))  # type: ignore[arg-type]
            image.load()
        _turn_upright(image)
        return to_rgb(image)


def _opened(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    """Open an image in the format ``kind``, with what is known about its samples in ``info``; see `to_rgb`."""
    more: dict[str, Any] = {}
    if kind == "TIFF":
        tags = TiffTags(data)
        if converted := float_image(data, tags, max_pixels):
            return converted
        more = {"bits": tags.number(BITS, 16), "inverted": tags.number(PHOTOMETRIC, 1) == 0}
    elif kind == "PNG":
        data, more = essential_png(data)
        if len(data) < _PNG_HEADER:
            raise UnusableError("truncated: the end of the file is missing")
        more["bits"] = data[24]  # in the header
    elif kind == "JPEG":
        data = essential_jpeg(data)
    elif kind in ("AVIF", "HEIF") and (at := data.find(b"colrnclx", 0, 1 << 16)) > 0:  # ISO 14496-12, section 12.1.5
        more = {"cicp": data[at + 9 : at + 15 : 2]}
    elif kind == "JPEG2000":
        more = jpeg2000_profile(data)
    try:
        with decoder():
            image = _by_pillow(data, kind)
    except UnusableError:
        if kind == "TIFF" and (layout := tags.unusual_layout()):
            raise unsupported(layout) from None
        raise
    image.info.update(more)
    return image


def _by_pillow(data: bytes, kind: str) -> Image.Image:
    if kind != "HEIF":
        return Image.open(io.BytesIO(data), formats=[kind])
    from pillow_heif import HeifImageFile

    image: Image.Image = HeifImageFile(io.BytesIO(data))
    return image


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except DAMAGE as error:  # EXIF is a small TIFF file; damage can raise any exception here too
        warnings.warn(f"EXIF orientation ignored ({error})", stacklevel=1)
