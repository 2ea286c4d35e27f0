"""Editing of a photograph: start from it with some noise, or resample only a part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionless.data.arrays import normalise
from captionless.data.decode import square
from captionless.errors import CaptionlessError

STRENGTH = 0.6
"""The default strength of an edit without a mask."""


@dataclass(frozen=True)
class Edit:
    """A photograph to start from.

    Args:
        photo: cropped to its central square and reduced as training images are.
        strength: the time to start at, in (0, 1]: how much of the photograph is lost in noise. At 0.3 it gets another
            texture, at 0.6 other things of the same colours and places (SDEdit, arXiv:2108.01073, algorithm 1).
            By default ``STRENGTH``, and 1 with a mask, whose white part is then sampled from noise alone.
        mask: an image of the photograph's size; white is resampled, black is kept. None resamples everything.

    Raises:
        CaptionlessError: a strength out of range, or a mask that does not fit.
    """

    photo: Image.Image
    strength: float | None = None
    mask: Image.Image | None = None

    def __post_init__(self) -> None:
        if not 0 < self.start <= 1:
            raise CaptionlessError(
                f"`strength` must be above 0 and at most 1, not {self.strength}. Try `strength={STRENGTH}`.",
                parameter="strength",
            )
        if self.mask is None:
            return
        if self.mask.size != self.photo.size:
            mask, photo = (f"{image.width} x {image.height} pixels" for image in (self.mask, self.photo))
            raise CaptionlessError(
                f"`mask` is {mask} and the photograph {photo}; they must be of one size. Draw it over the photograph.",
                parameter="mask",
            )
        if not mask_tensor(self.mask, min(self.mask.size)).any():
            raise CaptionlessError(
                "`mask` is black everywhere in the photograph's central square, so nothing would change. "
                "Paint the part to change white.",
                parameter="mask",
            )

    @property
    def start(self) -> float:
        """The time to start at."""
        if self.strength is not None:
            return self.strength
        return STRENGTH if self.mask is None else 1.0


def photo_tensor(photo: Image.Image, size: int, channels: int) -> Tensor:
    """Return a photograph as a training image: (channels, size, size), in [-1, 1]."""
    image = square(photo.convert("RGB"), size).convert("RGB" if channels == 3 else "L")
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(size, size, channels)
    return normalise(pixels.permute(2, 0, 1))


def mask_tensor(mask: Image.Image, size: int) -> Tensor:
    """Return a mask reduced like a photograph: (1, size, size), 1 where it is to be resampled, 0 where it is not.

    Pixels on the edge, partly white, are blended.
    """
    # A box has no overshoot: what is black in the mask stays exactly 0 but for the pixels on its edge.
    grey = square(mask.convert("L"), size, Image.Resampling.BOX)
    return torch.from_numpy(np.array(grey, dtype=np.float32))[None] / 255


def keep_outside(known: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that restores the known image in predicted images ``x0`` wherever the mask is 0.

    A sampler then carries the known pixels along with their own noise, as if it had sampled the whole image, and fills
    in the rest to match (the replacement method, arXiv:2011.13456, app. I.2, in terms of ``x0``).

    Args:
        known: the photograph, (channels, size, size), in [-1, 1].
        mask: (1, size, size), 1 where it is to be resampled.
    """
    return lambda x0: mask * x0 + (1 - mask) * known
