"""Cascaded super-resolution: a second denoiser upsamples the images of a base model.

Ho et al., "Cascaded Diffusion Models for High Fidelity Image Generation" (arXiv:2106.15282). The super-resolution stage
is a denoiser like any other, with the low-resolution image concatenated to the noisy one. The content of an image is
decided at low resolution, where a network is cheap; the rest is detail, which needs no attention and few steps.

In training, the low-resolution image is the photograph as the base model was trained on it, without flaws. (The mean of
the large image's pixels would not do: it is softer than generated images are.) Generated images have flaws. So the
stage is trained on low-resolution images with some noise, at a level that it receives as a channel, and learns to trust
their finest detail the less (conditioning augmentation, section 4.2 of the paper).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.diffusion.objective import Network

MAX_NOISE = 0.3
"""Std of the noise on low-resolution images, in [-1, 1], that the noise channel shows as 1."""


def low_res_channels(images: Tensor, size: int, level: Tensor, eps: Tensor) -> Tensor:
    """Return what conditions a super-resolution stage: noisy, upsampled images and a channel of their noise level.

    Args:
        images: low-resolution images in [-1, 1], (n, channels, side, side); the result has one channel more.
        size: side to upsample them to.
        level: std of the noise on each, (n,).
        eps: standard normal noise of the shape of ``images``.
    """
    noisy = images + level.reshape(-1, 1, 1, 1) * eps
    upsampled = F.interpolate(noisy, size=size, mode="bilinear", align_corners=False)
    plane = (level / MAX_NOISE).reshape(-1, 1, 1, 1).expand(-1, 1, size, size)
    return torch.cat([upsampled, plane], dim=1)


def with_low_res(network: Network, low_res: Tensor) -> Network:
    """Wrap a super-resolution stage as a network that takes noisy images only: its ``low_res_channels`` are fixed."""
    return lambda xt, t, condition: network(torch.cat([xt, low_res.to(xt)], dim=1), t, condition)
