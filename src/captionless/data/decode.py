"""The bytes of a picture file → an upright RGB picture of 8 bits, and what its decoder had to complain about."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from captionless.data.decoder_output import captured
from captionless.errors import CaptionlessError

BACKGROUND = (255, 255, 255)
"""The colour (RGB, 0 to 255) that transparent pictures are laid over."""
MAX_PIXELS = 100_000_000
"""A picture with more pixels is refused: a small file can claim any size (a decompression bomb)."""
MAX_BYTES = 500_000_000
"""A file with more bytes is refused: it is read into memory whole."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"GIF8", *_TIFF)
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262


class UnusableError(Exception):
    """A file that gives no picture. ``str(error)`` is the reason: a kind, and after a colon its details."""


def decode(source: str | Path | bytes, *, at_least: int = 0) -> Image.Image:
    """Read one picture: upright, RGB, 8 bits a channel.

    EXIF orientation is applied; an embedded colour profile is converted to sRGB (CMYK too); 16-bit and float
    grey is scaled to 8 bits, not clipped; transparency is laid over `BACKGROUND`; of an animation the first
    frame is taken.

    Args:
        source: a path, or the bytes of a file.
        at_least: when not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (much faster), so long as
            both its sides keep at least twice this many pixels.

    Raises:
        CaptionlessError: the file cannot be read, or gives no picture.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else read_bytes(Path(source))
        picture, notes = decode_quietly(data, at_least)
    except UnusableError as error:
        raise CaptionlessError(f"cannot use {name}: {error}. Give another picture.") from error
    for note in notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    if isinstance(picture, str):
        raise CaptionlessError(f"cannot use {name}: {picture}. Give another picture.")
    return picture


def decode_quietly(data: bytes, at_least: int = 0) -> tuple[Image.Image | str, tuple[str, ...]]:
    """`decode` for bytes, without a word on the terminal.

    Returns:
        The picture, or as a string the reason why there is none; and what its decoder complained about.
    """
    # Of our decoders only libtiff writes to the terminal by itself.
    result: Image.Image | str
    with captured(stderr=data.startswith(_TIFF)) as notes:
        try:
            result = _decode(data, at_least)
        except UnusableError as error:
            result = str(error)
    return result, tuple(notes)


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        UnusableError: it cannot be read, is empty or too large.
    """
    try:
        if path.is_dir():
            raise UnusableError("cannot be read: the folder cannot be listed")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UnusableError(f"too large: {size:,} bytes, the limit is {MAX_BYTES:,}")
        data = path.read_bytes()
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or error}") from error
    if not data:
        raise UnusableError("empty file")
    return data


def starts_like_image(beginning: bytes) -> bool:
    """Whether a file's first 8 bytes are those of a format that is read here."""
    return beginning.startswith(_BEGINNINGS)


def square(image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Cut the centre square out of a picture and resize it to ``size`` x ``size`` pixels, antialiased.

    Raises:
        CaptionlessError: ``size`` is below 1.
    """
    if size < 1:
        raise CaptionlessError(f"a picture cannot be {size} pixels wide. Choose a size of 1 or more.")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side == size:
        return image
    # The filter widens when it reduces, which is the antialiasing; the gap only saves time far away.
    return image.resize((size, size), resample, reducing_gap=4.0)


def _decode(data: bytes, at_least: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnusableError(
                    f"too large: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,} in all"
                )
            if at_least:
                image.draft(None, (2 * at_least, 2 * at_least))  # type: ignore[arg-type]
            image.load()
            _turn_upright(image)
            return _rgb(image)
    except UnusableError:
        raise
    except Exception as error:
        # Parsers of damaged files raise almost anything: OSError, SyntaxError, struct.error, IndexError, …
        raise UnusableError(_reason(error, data)) from error


def _reason(error: Exception, data: bytes) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, UnidentifiedImageError):
        damaged = starts_like_image(data[:8])
        return "damaged: its beginning cannot be understood" if damaged else "not a picture: its content is none"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "too large: there is not enough memory to decode it"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated: its end is missing"
    return f"damaged: {text or type(error).__name__}"


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # as above: EXIF is a small TIFF file of its own, and as often damaged
        warnings.warn(f"EXIF orientation ignored ({error})", stacklevel=1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        raise UnusableError("unread format: its colours are in LAB; convert it to RGB")
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB" if image.mode != "1" else "L")
    image = _srgb(image)
    if image.mode == "RGBA":
        background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 16 or 32 bits to 8 bits.

    16-bit files use their whole range (12-bit TIFFs theirs). The others do not say what white is: it is the
    smallest of 1, 255 and 65535 that holds all values, and where none does, lowest to highest is stretched.
    """
    values: NDArray[np.float32] = np.asarray(image).astype(np.float32)
    tags = getattr(image, "tag_v2", {})
    known = np.isfinite(values)
    if not known.any():
        raise UnusableError("damaged: it holds no finite values")
    low, high = float(values[known].min()), float(values[known].max())
    if image.mode.startswith("I;16"):
        low, high = 0.0, 2.0 ** tags.get(_TIFF_BITS, (16,))[0] - 1
    elif low >= 0 and high <= 65535:
        low, high = 0.0, next(white for white in (1.0, 255.0, 65535.0) if high <= white)
    else:
        warnings.warn(f"its values from {low:g} to {high:g} were stretched from black to white", stacklevel=1)
    values = np.where(known, values, low)
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero, which Pillow leaves to us beyond 8 bits
        scaled = 255.0 - scaled
    result = Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
    result.info = image.info
    return result


def _srgb(image: Image.Image) -> Image.Image:
    """Convert the colours that an embedded profile describes (a camera's, a printer's) to sRGB."""
    if not (data := image.info.get("icc_profile")):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if profile.profile.xcolor_space.strip() != _PROFILE_SPACES[image.mode]:
            raise ValueError(f"it is not for {image.mode} pictures")
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        return cast(Image.Image, ImageCms.profileToProfile(image, profile, srgb, outputMode=mode))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        warnings.warn(f"colour profile ignored ({error})", stacklevel=1)
        return image
