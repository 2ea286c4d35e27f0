"""Noise schedules: how much of the picture and how much noise there is at time t.

A schedule maps continuous time ``t`` in [0, 1] (0: picture, 1: noise) to the two numbers of the forward
process, ``xt = alpha(t) * x0 + sigma(t) * eps`` with ``alpha**2 + sigma**2 = 1`` (variance preserving;
DDPM, arXiv:2006.11239, eq. 4, with ``alpha = sqrt(alpha_bar)``). Everything that trains or samples sees a
schedule through ``alpha_sigma`` alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from captionless.errors import CaptionlessError


class Schedule(Protocol):
    """What training and sampling need to know of a noise schedule."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)``, each of the shape of ``t`` (values in [0, 1])."""
        ...


@dataclass(frozen=True)
class CosineSchedule:
    """The cosine schedule, ``alpha = cos``, ``sigma = sin`` of an angle that grows linearly with time.

    Nichol & Dhariwal, arXiv:2102.09672, eq. 17, in continuous time with its two ends cut where the
    log-SNR would run to infinity (as in Salimans & Ho, arXiv:2202.00512, section 3).

    Args:
        log_snr_max: ``log(alpha**2 / sigma**2)`` at t = 0.
        log_snr_min: the same at t = 1.
    """

    log_snr_max: float = 13.0
    log_snr_min: float = -13.0

    def __post_init__(self) -> None:
        """Refuse an empty range of noise levels."""
        if not self.log_snr_max > self.log_snr_min:
            raise CaptionlessError(
                f"log_snr_max ({self.log_snr_max}) must exceed log_snr_min ({self.log_snr_min}). "
                "Leave both out for the default schedule."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t`` in [0, 1]; strictly falling and rising in ``t``."""
        first = math.atan(math.exp(-0.5 * self.log_snr_max))
        last = math.atan(math.exp(-0.5 * self.log_snr_min))
        angle = first + t * (last - first)
        return torch.cos(angle), torch.sin(angle)


def log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """Return ``log(alpha**2 / sigma**2)`` at times ``t``: the noise level without a scale of its own."""
    alpha, sigma = schedule.alpha_sigma(t)
    return 2 * (alpha.log() - sigma.log())


def add_noise(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Sample the forward process ``q(xt | x0)`` (DDPM, arXiv:2006.11239, eq. 4) with given noise.

    Args:
        schedule: the noise schedule.
        x0: pictures, (n, channels, size, size), in [-1, 1].
        eps: standard normal noise of the same shape.
        t: one time a picture, (n,), in [0, 1].
    """
    alpha, sigma = (_per_picture(value, x0) for value in schedule.alpha_sigma(t))
    return alpha * x0 + sigma * eps


def sampling_times(steps: int) -> Tensor:
    """Return ``steps + 1`` times from 1 (noise) down to 0 (picture), evenly spaced, float64.

    Float64 keeps differences of log-SNR exact where a solver divides by them.
    """
    if steps < 1:
        raise CaptionlessError(f"a picture needs at least 1 sampling step, not {steps}. Try --steps 20.")
    return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


def _per_picture(value: Tensor, like: Tensor) -> Tensor:
    """Reshape (n,) to (n, 1, 1, 1) in the type of ``like``, so that it multiplies whole pictures."""
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
