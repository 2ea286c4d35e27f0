"""Crop images to their centre square, and bring the square to a size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from captionless.data.decode import rgb
from captionless.errors import CaptionlessError

_WIDEST = 4
"""Maximum ratio of the sides of a reduced image; more is cut off, because no square crop can show it."""
_SMALL = 256
"""Side in pixels up to which an image can count as pixel art."""


def crop_square(image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Crop the centre square of an image and resize it to ``size`` x ``size`` pixels with antialiasing.

    Raises:
        CaptionlessError: ``size`` is below 1.
    """
    if size < 1:
        raise CaptionlessError(f"an image cannot be {size} pixels wide. Choose a size of 1 or more.")
    side = min(image.size)
    image = _crop_centre(image, side, side)
    if side == size:
        return image
    # Pillow antialiases by widening the filter when it downsamples; `reducing_gap` only makes this faster.
    return image.resize((size, size), resample, reducing_gap=4.0)


def _crop_centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def reduce_whole(image: Image.Image, side: int) -> Image.Image:
    """Downsample an image so that its shorter side has ``side`` pixels; a smaller image is not enlarged.

    Up to a pixel of the longer side is cut off, so that the centre square consists of whole pixels. With ``side``
    1.5 times a size, `crop_square` of the result differs from that of a photograph by less than 1 of 255 on average.
    """
    shorter = min(image.size)
    even = [length - (length - shorter) % 2 for length in image.size]
    image = image.crop((0, 0, even[0], even[1]))
    image = _crop_centre(image, min(image.width, _WIDEST * shorter), min(image.height, _WIDEST * shorter))
    if shorter <= side:
        return image
    width, height = (side + (length - shorter) * side // shorter // 2 * 2 for length in image.size)
    left, top = ((length - new * shorter / side) / 2 for length, new in zip(image.size, (width, height), strict=True))
    box = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=4.0)


def is_pixel_art(image: Image.Image) -> bool:
    """Return whether a small image has so few colours that it was drawn pixel by pixel.

    A small photograph has a colour of its own in most pixels. The transparent border of a sprite is further evidence,
    so that a larger number of colours is accepted.
    """
    pixels = image.width * image.height
    return min(image.size) <= _SMALL and bool(
        image.getcolors(pixels // 2 if image.mode == "RGBA" else min(64, pixels // 16))
    )


def enlarge_pixel_art(image: Image.Image, size: int, background: str | None) -> Image.Image:
    """Enlarge pixel art by the largest whole factor that fits, and centre it on a ``size`` x ``size`` square.

    Every pixel becomes a square of equal pixels. An image on a transparent ground fits entirely, and the rest of the
    square gets the colour ``background``; otherwise (None) the shorter side fits, and the edge pixels are repeated.
    """
    factor = max(1, size // (min(image.size) if background is None else max(image.size)))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    image = _crop_centre(image, min(size, image.width), min(size, image.height))
    left, top = (size - image.width) // 2, (size - image.height) // 2
    if background is not None:
        square = Image.new("RGB", (size, size), rgb(background))
        square.paste(image, (left, top))
        return square
    border = [(top, size - image.height - top), (left, size - image.width - left), (0, 0)]
    return Image.fromarray(np.pad(np.asarray(image), border, mode="edge"))
