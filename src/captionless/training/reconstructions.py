"""Measure and show what is left of images after an autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captionless.data.arrays import denormalise, normalise
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

BATCH = 8


@torch.no_grad()
def psnr(network: Any, pixels: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio of reconstructed images, uint8 (n, channels, s, s), in decibels."""
    device, values = next(network.parameters()).device, []
    for part in torch.split(pixels, BATCH):
        images = normalise(part.to(device))
        decoded = network.decoder(network.encoder(images)).clamp(-1, 1)
        values.append(10 * (4 / (decoded - images).square().mean((1, 2, 3)).clamp(min=1e-10)).log10())
    return float(torch.cat(values).mean())


@torch.no_grad()
def reconstructions(network: Any, pixels: Tensor) -> Image.Image:
    """Draw images above their reconstructions."""
    images = normalise(pixels.to(next(network.parameters()).device))
    rows = [to_images(pixels.cpu()), to_images(denormalise(network.decoder(network.encoder(images))))]
    return sample_grid(rows, ["images", "reconstructions"], pixels.shape[3])
