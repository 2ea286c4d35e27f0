"""Cut random crops from training images, and tell the network which part of an image it sees.

Crops make a small folder larger, but a network that does not know of them generates crops. Its input therefore includes
their scale and place. Zeros stand for the whole image, which is what the network is told when it generates (EDM,
arXiv:2206.00364, app. F).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captionless.config.training import TrainConfig
from captionless.data.image_cache import MARGIN
from captionless.diffusion.objective import Network
from captionless.training.randomness import Stream, uniform

PURPOSE = 2**31
"""The purpose of a crop's random words; those of the dropout layers count from 1."""
LOBES = 3
"""Half the width of the Lanczos filter, in pixels of the smaller of the two images."""


def source_size(size: int) -> int:
    """Return the side in pixels of the images from which crops of ``size`` x ``size`` pixels are cut."""
    return round(MARGIN * size)


def random_crops(stream: Stream, config: TrainConfig) -> Tensor:
    """Return random crops, (n, 3), of the images at the positions of a stream.

    A crop is the natural logarithm of its side, and how far its centre lies right of and below that of the image; one
    side of the image is 1. The whole image is 0, 0, 0.
    """
    cropped, shrink, right, down = uniform(stream.words(4, PURPOSE)).unbind(1)
    room = (cropped < config.crop_probability) * shrink * (1 - config.crop)
    return torch.stack([torch.log1p(-room), room * (right - 0.5), room * (down - 0.5)], dim=1)


def cut(images: Tensor, crops: Tensor, size: int) -> Tensor:
    """Return crops of images, resized with the antialiasing filter with which whole images are read.

    Args:
        images: square images in [-1, 1], (n, channels, side, side).
        crops: see ``random_crops``, (n, 3).
        size: side of the result in pixels.

    Returns:
        Images in [-1, 1], (n, channels, size, size).
    """
    side, right, down = crops.unbind(1)
    rows, columns = (_resampling(images.shape[3], side.exp(), centre, size)[:, None] for centre in (down, right))
    # The filter overshoots at edges, which Pillow cuts off after each of its two passes.
    return (rows @ (images @ columns.mT).clamp(-1, 1)).clamp(-1, 1)


def mirrored(crops: Tensor, which: Tensor) -> Tensor:
    """Return the crops as they lie in the mirrored image where ``which``, (n,), is true."""
    side, right, down = crops.unbind(1)
    return torch.stack([side, torch.where(which, -right, right), down], dim=1)


def with_crops(network: Callable[..., Tensor], crops: Tensor) -> Network:
    """Return a network that is told of the crops that it sees."""
    return lambda xt, t, condition: network(xt, t, condition, crop=crops)


def _resampling(source: int, side: Tensor, centre: Tensor, size: int) -> Tensor:
    """Return the weights of the ``source`` pixels in each of the ``size`` pixels, (n, size, source).

    The filter is Lanczos (C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18, 1979),
    stretched where the image is reduced; at the borders of the image, its weights are renormalised.
    """
    step = side * (source / size)  # pixels of the source for each pixel of the result
    begin = source * (centre + (1 - side) / 2)
    place = begin[:, None] + step[:, None] * (torch.arange(size, device=side.device) + 0.5)
    pixels = torch.arange(source, device=side.device) + 0.5
    x = (pixels - place[:, :, None]) / step.clamp(min=1)[:, None, None]
    weights = torch.sinc(x) * torch.sinc(x / LOBES) * (x.abs() < LOBES)
    return weights / weights.sum(2, keepdim=True)
