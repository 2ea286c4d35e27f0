"""Compute the loss of one batch, with random numbers derived only from seed, process and images seen.

A resumed run therefore needs no saved generator state and continues as if it had never stopped (as in EDM2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.config.training import TrainConfig
from captionless.diffusion.objective import (
    Network,
    denoising_loss,
    drop_condition,
    mask_condition,
    noise_condition,
    training_times,
)
from captionless.diffusion.schedules import Schedule
from captionless.diffusion.super_resolution import low_res_channels, with_low_res


@dataclass(frozen=True)
class Batch:
    """The input of one training step."""

    x0: Tensor  # in [-1, 1], (n, channels, size, size)
    condition: Tensor  # (n, d)
    low_res: Tensor | None = None  # x0 at the base model's size, for a super-resolution stage


def step_loss(
    network: Network, schedule: Schedule, batch: Batch, config: TrainConfig, generator: torch.Generator
) -> Tensor:
    """Return the loss of one batch; flips, times, noise and dropped conditions are drawn from ``generator``.

    Random numbers are drawn on the CPU, so that they are the same for every device.
    """
    x0, condition, low_res = batch.x0, batch.condition, batch.low_res
    n, device = len(x0), x0.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape or (n,), generator=generator).to(device)

    if config.flip:
        mirrored = (uniform() < 0.5).reshape(-1, 1, 1, 1)
        x0 = torch.where(mirrored, x0.flip(3), x0)
        low_res = None if low_res is None else torch.where(mirrored, low_res.flip(3), low_res)
    t = training_times(schedule, uniform(), config.weighting)
    elementwise = config.mask == "element"
    dropped = uniform(*condition.shape) if elementwise else uniform()
    eps = torch.randn(x0.shape, generator=generator).to(device)
    if config.condition_cosine < 1:
        noise = torch.randn(condition.shape, generator=generator).to(device)
        condition = noise_condition(condition, noise, config.condition_cosine)
    drop = mask_condition if elementwise else drop_condition
    condition = drop(condition, dropped, config.condition_drop)
    if low_res is not None:
        noise = torch.randn(low_res.shape, generator=generator).to(device)
        shown = low_res_channels(low_res, config.size, config.augmentation_noise * uniform(), noise)
        network = with_low_res(network, shown)
    x0 = x0.contiguous(memory_format=torch.channels_last)
    return denoising_loss(network, schedule, x0, condition, t, eps, config.prediction, config.weighting)


def step_generator(seed: int, process: int, images_seen: int) -> torch.Generator:
    """Return the random number generator of one training step; a resumed run draws the same numbers as before."""
    # Large odd factors spread neighbouring triples over the seeds; PyTorch uses only 32 bits of a seed.
    mixed = seed * 0x9E3779B97F4A7C15 + (process + 1) * 0xC2B2AE3D27D4EB4F + images_seen * 0x165667B19E3779F9
    return torch.Generator().manual_seed(mixed % 2**32)
