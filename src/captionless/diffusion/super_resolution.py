"""Cascades: one model paints small pictures, a second one enlarges them.

Ho et al., "Cascaded Diffusion Models for High Fidelity Image Generation" (arXiv:2106.15282). The second denoiser is one
like any other, except that it sees the small picture beside the noisy large one. What a picture shows is settled when
it is small, where a network is cheap; what is left is detail, which needs no attention and few steps.

In training, the small picture is the photograph as the small model was shown it, and flawless. (The mean of the large
one's pixels would not do: it is softer, and beside what is painted the enlarger would see detail where there is none.)
Painted ones have flaws: so the denoiser learns from small pictures with some noise on them, is told how much, and takes
their finest detail for no more than a hint (conditioning augmentation, section 4.2 of the paper).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.diffusion.objective import Network
from captionless.models.unet import DenoiserConfig

MAX_NOISE = 0.3
"""Std of the noise on small pictures (whose values lie in [-1, 1]) in training, at most."""
ENLARGING_MULTIPLIERS = (1, 1, 2)
"""Of the second denoiser: detail is made at the finest level, which gets most of the work."""
GRID = 32
"""Positions a side that the second denoiser works on, at least."""


def super_resolution_shape(
    size: int, channels: int, width: int, condition_width: int, dropout: float
) -> DenoiserConfig:
    """Return the shape of a denoiser that enlarges to ``size`` pixels: all of it convolutions."""
    patch = next((patch for patch in (4, 2) if size % (4 * patch) == 0 and size // patch >= GRID), 1)
    return DenoiserConfig(
        channels,
        patch,
        width,
        multipliers=ENLARGING_MULTIPLIERS,
        attention=(),
        condition_width=condition_width,
        dropout=dropout,
        bypass=True,
        beside=channels + 1,
    )


def shown_beside(small: Tensor, size: int, level: Tensor, eps: Tensor) -> Tensor:
    """Return what the second denoiser sees of small pictures: noisy, enlarged, and how noisy they are.

    Args:
        small: pictures in [-1, 1], (n, channels, side, side).
        size: side to enlarge them to.
        level: std of the noise on each, (n,).
        eps: standard normal noise of the shape of ``small``.

    Returns:
        (n, channels + 1, size, size).
    """
    noisy = small + level.reshape(-1, 1, 1, 1) * eps
    enlarged = F.interpolate(noisy, size=size, mode="bilinear", align_corners=False)
    plane = (level / MAX_NOISE).reshape(-1, 1, 1, 1).expand(-1, 1, size, size)
    return torch.cat([enlarged, plane], dim=1)


def looking_at(network: Network, shown: Tensor) -> Network:
    """Return the second denoiser as one of noisy pictures alone, with ``shown`` before its eyes.

    Args:
        network: takes (n, 2 * channels + 1, size, size).
        shown: of ``shown_beside``. A call with k * n noisy pictures (k conditions of each) sees it k times.
    """

    def answer(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        beside = shown.to(xt).repeat(len(xt) // len(shown), 1, 1, 1)
        return network(torch.cat([xt, beside], dim=1), t, condition)

    return answer
