"""Cascaded super-resolution: a second denoiser upsamples the images of a base model.

The method follows Ho et al., "Cascaded Diffusion Models for High Fidelity Image Generation" (arXiv:2106.15282). The
super-resolution stage is a denoiser whose input is the noisy image with the low-resolution image concatenated to it.
The content of an image is decided at low resolution, where a network is cheap. The super-resolution stage only adds
detail, so it needs no attention and few steps.

In training, the low-resolution input is the training image at the size and with the preprocessing of the base model.
(Averaging the pixels of the large image would make it blurrier than generated images.) In sampling, the input is a
generated image, which has artefacts. The stage is therefore trained on low-resolution images with added noise, whose
level it receives as a channel, so that it relies less on their finest detail (conditioning augmentation, section 4.2 of
the paper).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.diffusion.objective import Network

MAX_NOISE = 0.3
"""Std of the noise, on images in [-1, 1], that corresponds to a value of 1 in the noise-level channel."""


def low_res_channels(images: Tensor, size: int, level: Tensor, eps: Tensor) -> Tensor:
    """Return the input channels that condition a super-resolution stage, (n, channels + 1, size, size).

    These are the images with noise added, upsampled, and a channel with the noise level.

    Args:
        images: low-resolution images in [-1, 1], (n, channels, side, side).
        size: side length after upsampling, in pixels.
        level: std of the noise to add to each image, (n,).
        eps: standard normal noise, shape of ``images``.
    """
    noisy = images + level.reshape(-1, 1, 1, 1) * eps
    upsampled = F.interpolate(noisy, size=size, mode="bilinear", align_corners=False)
    plane = (level / MAX_NOISE).reshape(-1, 1, 1, 1).expand(-1, 1, size, size)
    return torch.cat([upsampled, plane], dim=1)


def with_low_res(network: Network, low_res: Tensor) -> Network:
    """Return a network that concatenates ``low_res`` to its noisy images and calls the super-resolution ``network``."""
    return lambda xt, t, condition: network(torch.cat([xt, low_res.to(xt)], dim=1), t, condition)
