"""Painting over a photograph: begin from it with some noise, or repaint a part of it only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionless.data.arrays import normalise
from captionless.data.decode import square
from captionless.diffusion.guidance import Denoise
from captionless.errors import CaptionlessError

STRENGTH = 0.6
"""Of an edit without a mask."""


@dataclass(frozen=True)
class Edit:
    """A photograph to begin from.

    Args:
        photo: cropped to its central square and reduced as training pictures are.
        strength: the time to begin at: how much of the photograph is lost in noise, in (0, 1]. At 0.3 it gets another
            texture, at 0.6 other things of the same colours and places (SDEdit, arXiv:2108.01073, algorithm 1).
            By default ``STRENGTH``, and 1 with a mask, whose white part is then painted from noise alone.
        mask: of the photograph's size; white is repainted, black stays as it is. None repaints all.
    """

    photo: Image.Image
    strength: float | None = None
    mask: Image.Image | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if not 0 < self.start <= 1:
            raise CaptionlessError(f"--strength must lie in (0, 1], not {self.strength}. Try {STRENGTH}.")
        if self.mask is None:
            return
        if self.mask.size != self.photo.size:
            (width, height), (wide, high) = self.photo.size, self.mask.size
            raise CaptionlessError(
                f"--mask is {wide} x {high} pixels, the photograph {width} x {height}. Draw it over the photograph."
            )
        if not mask_tensor(self.mask, min(self.mask.size)).any():
            raise CaptionlessError(
                "--mask is black all over the photograph's central square, so that nothing would be repainted. "
                "Draw white what is to change."
            )

    @property
    def start(self) -> float:
        """The time to begin at."""
        if self.strength is not None:
            return self.strength
        return STRENGTH if self.mask is None else 1.0


def photo_tensor(photo: Image.Image, size: int, channels: int) -> Tensor:
    """Return a photograph as the denoiser sees one: (channels, size, size), in [-1, 1]."""
    picture = square(photo.convert("RGB"), size).convert("RGB" if channels == 3 else "L")
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32)).reshape(size, size, channels)
    return normalise(pixels.permute(2, 0, 1))


def mask_tensor(mask: Image.Image, size: int) -> Tensor:
    """Return a mask reduced like a photograph: (1, size, size), 1 where it is to be repainted, 0 where it is not.

    Pixels on the edge, partly white, are blended.
    """
    # A box has no overshoot: what is black in the mask stays exactly 0 but for the pixels on its edge.
    grey = square(mask.convert("L"), size, Image.Resampling.BOX)
    return torch.from_numpy(np.array(grey, dtype=np.float32))[None] / 255


def keep_outside(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Return a prediction of ``x0`` that equals ``known`` outside the mask.

    A sampler then carries the known pixels along with their own noise, as if it had drawn the whole picture, and
    paints the rest to match (the replacement method, arXiv:2011.13456, app. I.2, in terms of ``x0``).

    Args:
        denoise: the prediction to restrict.
        known: the photograph, (channels, size, size) or one a picture, in [-1, 1].
        mask: (1, size, size), 1 where it is to be repainted.
    """

    def masked(xt: Tensor, t: Tensor) -> Tensor:
        return mask * denoise(xt, t) + (1 - mask) * known

    return masked
