"""The running average of the weights, which is what paints: smoother than any single step's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

WARM_UP = 0.08
"""The average spans at most this share of the training so far, so that a short run does not average in its
random start (the ramp-up of EDM, arXiv:2206.00364, app. F; the share is a little larger than there)."""


def average_copy(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` to hold the average; it is never trained itself."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(batch: int, images: int, half_life: float) -> float:
    """Return how much of the average a step keeps.

    Args:
        batch: pictures in this step.
        images: pictures seen so far.
        half_life: pictures after which a step's weight in the average has halved, once warmed up.
    """
    half_life = max(min(half_life, WARM_UP * images), 1e-8)
    return float(0.5 ** (batch / half_life))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move ``average`` towards ``network``: ``average = keep * average + (1 - keep) * network``."""
    targets = [p.detach() for p in average.parameters()]
    sources = [p.detach() for p in network.parameters()]
    torch._foreach_lerp_(targets, sources, 1 - keep)
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)
