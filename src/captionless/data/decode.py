"""Decode the bytes of an image file into an upright RGB image with 8 bits per channel."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from captionless.data.decoder_output import captured
from captionless.data.stored import File
from captionless.errors import CaptionlessError

BACKGROUND = "white"
"""Default background colour of transparent images."""
MAX_PIXELS = 100_000_000
"""Images with more pixels are rejected, as a protection against decompression bombs."""
MAX_BYTES = 500_000_000
"""Files with more bytes are rejected, because each file is read into memory completely."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262


class UnusableError(Exception):
    """Raised for a file that cannot be decoded; the message is the reason, as ``kind: details``."""


def decode_image(source: str | Path | bytes, background: str = BACKGROUND) -> Image.Image:
    """Decode an image file into an upright RGB image with 8 bits per channel.

    The EXIF orientation is applied, images with an embedded colour profile (including CMYK) are converted to sRGB,
    16-bit grey is scaled to 8 bits, transparent images are composited over ``background``, and only the first frame of
    an animation is used.

    Args:
        source: the path or the content of an image file.
        background: a colour name or #rrggbb.

    Raises:
        CaptionlessError: the file cannot be read or decoded, or the colour is unknown.
    """
    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else read_bytes(Path(source))
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
    with captured(stderr=data.startswith(_TIFF)) as notes:  # only libtiff writes to stderr
        try:
            result = _decode(data, at_least, max_pixels)
        except UnusableError as error:
            result = str(error)
    return result, tuple(notes)


def read_bytes(path: File, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a file.

    Raises:
        UnusableError: the file cannot be read, is empty, or is too large.
    """
    try:
        if path.is_dir():
            raise UnusableError("cannot be read: the folder cannot be listed")
        if (size := path.stat().st_size) > max_bytes:
            raise UnusableError(f"too large: {size:,} bytes, the limit is {max_bytes:,}")
        data = path.read_bytes()
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or error}") from error
    if not data:
        raise UnusableError("empty file")
    return data


def _decode(data: bytes, at_least: int, max_pixels: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise UnusableError(f"too large: {image.width} x {image.height} pixels, the limit is {max_pixels:,}")
            if at_least:
                image.draft(None, (2 * at_least, 2 * at_least))  # type: ignore[arg-type]
            image.load()
            _turn_upright(image)
            return _rgb(image)
    except UnusableError:
        raise
    except Exception as error:
        # Decoders raise almost any exception on damaged files: OSError, SyntaxError, struct.error, IndexError, …
        raise UnusableError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, UnidentifiedImageError):
        return "not an image: the format is unknown, or the header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "too large: there is not enough memory to decode it"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated: the end of the file is missing"
    return f"damaged: {text or type(error).__name__}"


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # EXIF is a small TIFF file; damage can raise any exception here too
        warnings.warn(f"EXIF orientation ignored ({error})", stacklevel=1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("LAB", "I", "F"):  # the white level of 32-bit pixels is not recorded
        raise UnusableError(f"unsupported format: pixel mode {image.mode}; convert it to 8-bit RGB")
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB" if image.mode != "1" else "L")
    image = _srgb(image)
    transparent = image.mode == "RGBA" and cast(tuple[int, int], image.getchannel("A").getextrema())[0] < 255
    return image if transparent else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (or the 12-bit grey of some TIFFs) to 8 bits."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image) * (255 / (2 ** tags.get(_TIFF_BITS, (16,))[0] - 1))
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # 0 is white; Pillow inverts only images of up to 8 bits
        values = 255 - values
    result = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    result.info = image.info
    return result


def _srgb(image: Image.Image) -> Image.Image:
    """Convert an image with an embedded colour profile (of a camera or printer) to sRGB."""
    if not (data := image.info.get("icc_profile")):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if profile.profile.xcolor_space.strip() != _PROFILE_SPACES[image.mode]:
            raise ValueError(f"it is not a profile for {image.mode} images")
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        return cast(Image.Image, ImageCms.profileToProfile(image, profile, srgb, outputMode=mode))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        warnings.warn(f"colour profile ignored ({error})", stacklevel=1)
        return image
