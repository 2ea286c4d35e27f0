"""The exponential moving average of the weights, which is used for sampling: smoother than any single step's."""

from __future__ import annotations

import copy

import torch
from torch import nn

WARM_UP = 0.08
"""The half-life is at most this share of the training so far, so that a short run does not average in its random start
(the ramp-up of EDM, arXiv:2206.00364, app. F; the share is a little larger than there)."""


def average_copy(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` to hold the average; it is not trained itself."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(batch: int, images: int, half_life: float) -> float:
    """Return the share of the average that a step of ``batch`` images keeps, after ``images`` seen so far.

    ``half_life`` is the number of images after which a step's weight in the average has halved, once warmed up.
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
