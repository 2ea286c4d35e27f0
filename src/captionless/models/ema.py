"""The exponential moving average (EMA) of the weights, which is used for sampling."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

WARM_UP = 0.08
"""Maximum half-life as a fraction of the training so far, so that the average forgets the random initialisation in
short runs (the ramp-up of EDM, arXiv:2206.00364, app. F, with a slightly larger fraction)."""


def average_copy(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` for the average, in evaluation mode and without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(batch: int, images: int, half_life: float) -> float:
    """Return the decay factor of the average for a step of ``batch`` images, after ``images`` images seen so far.

    ``half_life`` is the number of images after which the weight of a step in the average has halved; it is reduced
    during the warm-up.
    """
    half_life = max(min(half_life, WARM_UP * images), 1e-8)
    return float(0.5 ** (batch / half_life))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, keep: float | Tensor) -> None:
    """Update the average in place: ``average = keep * average + (1 - keep) * network``.

    A tensor ``keep``, of no dimensions and on the device of the weights, may change between replays of a captured step.
    """
    targets = [p.detach() for p in average.parameters()]
    sources = [p.detach() for p in network.parameters()]
    if isinstance(keep, Tensor):  # ``_foreach_lerp_`` would launch an operation for every tensor
        differences = torch._foreach_sub(sources, targets)
        torch._foreach_mul_(differences, 1 - keep)
        torch._foreach_add_(targets, differences)
    else:
        torch._foreach_lerp_(targets, sources, 1 - keep)
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)
