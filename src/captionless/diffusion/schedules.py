"""Noise schedules: the factors of image and noise at time t.

A schedule maps continuous time ``t`` in [0, 1] (0: image, 1: noise) to the two numbers of the forward
process, ``xt = alpha(t) * x0 + sigma(t) * eps`` (DDPM, arXiv:2006.11239, eq. 4, with ``alpha = sqrt(alpha_bar)``).
Training and sampling use a schedule through ``alpha_sigma`` alone, so discrete betas, cosines and straight lines are
interchangeable.

All but ``FlowSchedule`` preserve variance, ``alpha**2 + sigma**2 = 1``. Dividing ``xt`` by ``alpha`` gives the
noise levels ``sigma / alpha`` of EDM: the same process in other units, with the same log-SNR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from captionless.config.training import MAX_STEPS
from captionless.errors import CaptionlessError

LOG_SNR_LIMIT = 13.0
"""Where schedules whose log-SNR runs to infinity are cut: an image with noise of std 0.0015, and noise with as much of
the image, neither visible at 8 bits."""


class Schedule(Protocol):
    """The interface of a noise schedule."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)``, each of the shape and type of the times ``t``; strictly falling and rising."""


@dataclass(frozen=True)
class CosineSchedule:
    """``alpha = cos``, ``sigma = sin`` of an angle that grows linearly with time.

    Nichol & Dhariwal, arXiv:2102.09672, eq. 17, in continuous time with its two ends cut where the
    log-SNR would run to infinity (as in Salimans & Ho, arXiv:2202.00512, section 3).

    Args:
        log_snr_max: ``log(alpha**2 / sigma**2)`` at t = 0; at most 20, beyond which float32 cannot tell the end from 1.
        log_snr_min: the same at t = 1; at least -20.
        shift: added to the log-SNR at every time; from -6 to 6. Averaging ``k x k`` pixels raises the log-SNR by
            ``2 log k``, so with a shift of ``-2 log k`` an image ``k`` times as large shows as much at each time as
            the small one (simple diffusion, arXiv:2301.11093, eq. 3 and 4). The two ends move with it.
    """

    log_snr_max: float = LOG_SNR_LIMIT
    log_snr_min: float = -LOG_SNR_LIMIT
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not -6 <= self.shift <= 6:
            raise CaptionlessError(
                f"the shift of a cosine schedule must be from -6 to 6, not {self.shift}. -1.39 suits twice the size."
            )
        if not 20 >= self.log_snr_max > self.log_snr_min >= -20:
            raise CaptionlessError(
                f"log_snr_max ({self.log_snr_max}) must exceed log_snr_min ({self.log_snr_min}), and both must be from "
                "-20 to 20. Leave both out for the default schedule."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        first = math.atan(math.exp(-0.5 * self.log_snr_max))
        last = math.atan(math.exp(-0.5 * self.log_snr_min))
        angle = first + t * (last - first)
        if self.shift == 0:
            return torch.cos(angle), torch.sin(angle)
        # sigma / alpha times a constant, and both back to a sum of squares of 1.
        alpha, sigma = torch.cos(angle), math.exp(-0.5 * self.shift) * torch.sin(angle)
        length = (alpha**2 + sigma**2).sqrt()
        return alpha / length, sigma / length


@dataclass(frozen=True)
class SigmoidSchedule:
    """``alpha_bar`` falls as a sigmoid of arguments from ``start`` (t = 0) to ``end``, scaled to go from 1 to 0.

    Jabri et al., arXiv:2212.11972, and Chen, arXiv:2301.10972, section 2.1 (there with a temperature, by which
    ``start`` and ``end`` are divided here). A wider range spends more time at both ends.
    """

    start: float = -3.0
    end: float = 3.0

    def __post_init__(self) -> None:
        if not (-30 <= self.start <= 10 and self.start + 0.1 <= self.end <= 30):
            raise CaptionlessError(
                f"a sigmoid schedule needs a start from -30 to 10 and an end from start + 0.1 to 30, not {self.start} "
                f"and {self.end}. Try -3 and 3."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        low, high = _sigmoid(self.start), _sigmoid(self.end)
        # The times, in the paper's sense, at which the log-SNR is +LIMIT and -LIMIT.
        trace = _sigmoid(-LOG_SNR_LIMIT)
        first = _logit(low + trace * (high - low))
        last = _logit(high - trace * (high - low))
        sigma2 = (torch.sigmoid(first + _wide(t) * (last - first)) - low) / (high - low)
        return (1 - sigma2).sqrt().to(t.dtype), sigma2.sqrt().to(t.dtype)


@dataclass(frozen=True)
class KarrasSchedule:
    """The noise levels of EDM, evenly spaced in ``level**(1 / rho)`` (arXiv:2206.00364, eq. 5).

    ``sigma_min`` and ``sigma_max`` are ``sigma / alpha`` at t = 0 and 1; a larger ``rho`` favours the low levels.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (1e-5 <= self.sigma_min < self.sigma_max <= 1e5 and 1 <= self.rho <= 100):
            raise CaptionlessError(
                "noise levels need 1e-5 <= sigma_min < sigma_max <= 1e5 and a rho from 1 to 100, not "
                f"{self.sigma_min}, {self.sigma_max} and {self.rho}. Leave them out for those of EDM."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        first, last = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        level = (first + _wide(t) * (last - first)) ** self.rho
        alpha = 1 / (1 + level**2).sqrt()
        return alpha.to(t.dtype), (level * alpha).to(t.dtype)


@dataclass(frozen=True)
class LinearSchedule:
    """The discrete steps of DDPM: betas that rise linearly (arXiv:2006.11239, section 4), for any number of steps.

    Step k of T lies at time k / T, where the schedule is exactly ``alpha_bar_k = prod(1 - beta_i)``; at time 0 is the
    clean image. Between steps ``alpha`` is interpolated linearly. With few steps much of the image
    is left at t = 1 (T = 150: ``alpha_bar = 0.22``), though sampling starts from pure noise; rescaling to zero terminal
    SNR corrects that (arXiv:2305.08891, algorithm 1), for every prediction but ``eps``.

    Args:
        steps: T.
        beta_start: the variance of the first step.
        beta_end: the variance of the last step.
        zero_terminal_snr: shift and scale ``alpha`` so that nothing of the image is left at t = 1.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        possible = 2 <= self.steps <= MAX_STEPS and 0 < self.beta_start <= self.beta_end < 1
        if not possible or not bool((self.alpha.diff() < 0).all()):
            raise CaptionlessError(
                f"a linear schedule needs 2 to {MAX_STEPS:,} steps, 0 < beta_start <= beta_end < 1 and an alpha that "
                f"falls to the end, not {self.steps}, {self.beta_start} and {self.beta_end}. Try 1000, 1e-4 and 0.02."
            )

    @cached_property
    def alpha(self) -> Tensor:
        """``alpha`` at the times 0, 1/T, ... 1: (T + 1,), float64."""
        betas = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        alpha = (1 - betas).cumprod(0).sqrt()
        if self.zero_terminal_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        return torch.cat([torch.ones(1, dtype=torch.float64), alpha])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        place = _wide(t) * self.steps
        table = self.alpha.to(place.dtype).to(place.device)
        below = place.floor().clamp(max=self.steps - 1).long()
        alpha = torch.lerp(table[below], table[below + 1], place - below)
        return alpha.to(t), (1 - alpha**2).sqrt().to(t)


@dataclass(frozen=True)
class FlowSchedule:
    """The straight line from image to noise: ``alpha = 1 - t``, ``sigma = t``.

    Rectified flow (arXiv:2209.03003) and flow matching with the optimal-transport path (arXiv:2210.02747, eq. 22 with
    ``sigma_min = 0``), its ends cut at the log-SNR of the other schedules. Variance is not preserved.
    """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        trace = _sigmoid(-0.5 * LOG_SNR_LIMIT)
        sigma = trace + t * (1 - 2 * trace)
        return 1 - sigma, sigma


AnySchedule = CosineSchedule | SigmoidSchedule | KarrasSchedule | LinearSchedule | FlowSchedule

SCHEDULE_KINDS: dict[str, type[AnySchedule]] = {
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "sigmoid": SigmoidSchedule,
    "karras": KarrasSchedule,
    "flow": FlowSchedule,
}
"""The schedules by their names in ``captionless.config.training``."""


def log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """Return ``log(alpha**2 / sigma**2)`` at times ``t``: the noise level independent of scale."""
    alpha, sigma = schedule.alpha_sigma(t)
    return 2 * (alpha.log() - sigma.log())


def time_at(schedule: Schedule, value: Tensor) -> Tensor:
    """Return the times, float64 in [0, 1], at which the log-SNR is ``value``: the inverse of ``log_snr``.

    By bisection, since the log-SNR falls strictly; a value outside the schedule's range gives the nearer end.
    """
    low = torch.zeros_like(value, dtype=torch.float64)
    high = torch.ones_like(low)
    for _ in range(60):
        middle = (low + high) / 2
        before = log_snr(schedule, middle) > value
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    return (low + high) / 2


def add_noise(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Sample the forward process ``q(xt | x0)`` (DDPM, arXiv:2006.11239, eq. 4) with given noise.

    Args:
        schedule: the noise schedule.
        x0: images in [-1, 1], or other data, one per row.
        eps: standard normal noise of the same shape.
        t: one time per image, (n,).
    """
    alpha, sigma = (value.to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1)) for value in schedule.alpha_sigma(t))
    return alpha * x0 + sigma * eps


def sampling_times(steps: int, start: float = 1.0) -> Tensor:
    """Return ``steps + 1`` times from ``start`` (1: pure noise) down to 0 (image), evenly spaced, float64.

    Float64 keeps differences of log-SNR exact where a solver divides by them.
    """
    return torch.linspace(start, 0.0, steps + 1, dtype=torch.float64)


def karras_times(schedule: Schedule, steps: int, start: float = 1.0) -> Tensor:
    """Return ``steps + 1`` times from ``start`` to 0 whose noise levels are spaced as EDM's (arXiv:2206.00364, eq. 5).

    The levels are independent of the schedule that the network was trained with; where that one ends, so do they.
    Where ``start`` is noisier than EDM's highest level, that level comes first.
    """
    even, levels = sampling_times(steps, start), KarrasSchedule()
    top, bottom = time_at(levels, log_snr(schedule, even[[0, -1]])).tolist()
    if top <= bottom:  # less noise at the start than in the lowest level
        return even
    times = time_at(schedule, log_snr(levels, torch.linspace(top, bottom, steps, dtype=torch.float64)))
    return torch.cat([times, even[-1:]])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _wide(t: Tensor) -> Tensor:
    """Return times in float64, in which ``1 - alpha**2`` keeps its digits; MPS has float32 at most."""
    return t.float() if t.device.type == "mps" else t.double()
