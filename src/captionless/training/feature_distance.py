"""Compare images by features of the bundled encoder's image tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.hub import BUNDLED

LEVELS = (3, 7, 15)
"""Blocks of the image tower whose outputs are compared."""


class FeatureDistance(nn.Module):
    """The distance of the features of two batches of images in [-1, 1], averaged over positions and levels.

    It is that of LPIPS (Zhang et al., arXiv:1801.03924, eq. 1) without its learned weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        encoder = load_encoder(BUNDLED)
        self.tower, steps = encoder.model.vision_model, encoder.image_processor
        self.register_buffer("mean", torch.tensor(steps.image_mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(steps.image_std).reshape(-1, 1, 1))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the mean distance, a scalar."""
        # Grey images get three equal channels.
        images = ((torch.cat([one, other]) + 1) / 2 - self.mean) / self.std
        states = self.tower(images, output_hidden_states=True).hidden_states
        pairs = (F.normalize(states[level], dim=1).chunk(2) for level in LEVELS)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()
