"""Crop images to their centre square."""

from __future__ import annotations

from PIL import Image

from captionless.errors import CaptionlessError


def crop_square(image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Crop the centre square of an image and resize it to ``size`` x ``size`` pixels with antialiasing.

    Raises:
        CaptionlessError: ``size`` is below 1.
    """
    if size < 1:
        raise CaptionlessError(f"an image cannot be {size} pixels wide. Choose a size of 1 or more.")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side == size:
        return image
    # Pillow antialiases by widening the filter when it downsamples; `reducing_gap` only makes this faster.
    return image.resize((size, size), resample, reducing_gap=4.0)
