"""Edit a photograph: add noise to it and denoise it (SDEdit), or resample a masked part (inpainting)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionless.data.arrays import normalise
from captionless.data.crop import crop_square
from captionless.errors import CaptionlessError

STRENGTH = 0.6
"""The default strength of an edit without a mask."""
SMALLEST_STRENGTH = 0.001
"""Smallest strength: below it no pixel changes, and the noise levels underflow."""


@dataclass(frozen=True)
class Edit:
    """A photograph to edit.

    Args:
        photo: the photograph; it is cropped to its central square and resized like training images.
        strength: the time at which denoising starts, from 0.001 to 1. Higher values add more noise: 0.3 mostly changes
            the texture, 0.6 also the objects, but keeps colours and layout (SDEdit, arXiv:2108.01073, algorithm 1). The
            default is ``STRENGTH``, or 1 with a mask, so that the white part is sampled from pure noise.
        mask: an image with the size of the photograph; white pixels are resampled, black pixels are kept. By default,
            the whole image is resampled.

    Raises:
        CaptionlessError: the strength is out of range, the mask has a different size, or it is black everywhere.
    """

    photo: Image.Image
    strength: float | None = None
    mask: Image.Image | None = None

    def __post_init__(self) -> None:
        if not SMALLEST_STRENGTH <= self.start <= 1:
            raise CaptionlessError(
                f"`strength` must be from {SMALLEST_STRENGTH} to 1, not {self.strength}. Try `strength={STRENGTH}`.",
                parameter="strength",
            )
        if self.mask is None:
            return
        if self.mask.size != self.photo.size:
            mask, photo = (f"{image.width} x {image.height} pixels" for image in (self.mask, self.photo))
            raise CaptionlessError(
                f"`mask` is {mask} and the photograph {photo}. Use a mask with the size of the photograph.",
                parameter="mask",
            )
        if not mask_tensor(self.mask, min(self.mask.size)).any():
            raise CaptionlessError(
                "`mask` is black everywhere in the photograph's central square, so nothing would change. "
                "Use white to mark the area that should change.",
                parameter="mask",
            )

    @property
    def start(self) -> float:
        """The time at which denoising starts."""
        if self.strength is not None:
            return self.strength
        return STRENGTH if self.mask is None else 1.0


def photo_tensor(photo: Image.Image, size: int, channels: int) -> Tensor:
    """Preprocess a photograph like a training image; return a tensor in [-1, 1], (channels, size, size)."""
    image = crop_square(photo.convert("RGB"), size).convert("RGB" if channels == 3 else "L")
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(size, size, channels)
    return normalise(pixels.permute(2, 0, 1))


def mask_tensor(mask: Image.Image, size: int) -> Tensor:
    """Preprocess a mask like a photograph; return a tensor, (1, size, size), with 1 for pixels to resample.

    Pixels at the edges of the mask can have values between 0 and 1.
    """
    # A box filter does not overshoot, so that black areas stay exactly 0.
    grey = crop_square(mask.convert("L"), size, Image.Resampling.BOX)
    return torch.from_numpy(np.array(grey, dtype=np.float32))[None] / 255


def keep_outside(known: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that replaces predicted images ``x0`` by the known image wherever the mask is 0.

    Applied to every prediction of a sampler, this keeps the known pixels and resamples the others to match them (the
    replacement method, arXiv:2011.13456, app. I.2, in terms of ``x0``).

    Args:
        known: the photograph in [-1, 1], (channels, size, size).
        mask: 1 for pixels to resample, 0 for pixels to keep, (1, size, size).
    """
    return lambda x0: mask * x0 + (1 - mask) * known
