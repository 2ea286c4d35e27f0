"""Noise schedules, which define how much noise an image has at each time.

A schedule maps the continuous time ``t`` in [0, 1], from image (0) to noise (1), to the coefficients of the forward
process ``xt = alpha(t) * x0 + sigma(t) * eps`` (DDPM, arXiv:2006.11239, eq. 4, with ``alpha = sqrt(alpha_bar)``).
Training and sampling only call ``alpha_sigma``, so all schedules are interchangeable.

All schedules except ``FlowSchedule`` are variance-preserving, ``alpha**2 + sigma**2 = 1``. Dividing ``xt`` by ``alpha``
gives the variance-exploding form of EDM with the noise level ``sigma / alpha``; the log-SNR is the same in both forms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import torch
from torch import Tensor

from captionless.config.training import MAX_STEPS
from captionless.errors import CaptionlessError

LOG_SNR_LIMIT = 13.0
"""Schedules whose log-SNR is unbounded are truncated to [-13, 13]. At these limits, ``sigma`` at t = 0
and ``alpha`` at t = 1 are 0.0015, which is invisible at 8 bits per channel."""


class Schedule(Protocol):
    """The interface of a noise schedule."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)``, each with the shape and dtype of ``t``.

        ``alpha`` must be strictly decreasing in ``t``, and ``sigma`` strictly increasing.
        """


@dataclass(frozen=True)
class CosineSchedule:
    """The cosine schedule: ``alpha`` and ``sigma`` are the cosine and sine of an angle that is linear in time.

    It is the schedule of Nichol & Dhariwal (arXiv:2102.09672, eq. 17) in continuous time, with the log-SNR truncated at
    both ends (as in Salimans & Ho, arXiv:2202.00512, section 3).

    Args:
        log_snr_max: ``log(alpha**2 / sigma**2)`` at t = 0; at most 20, because of the precision of float32.
        log_snr_min: ``log(alpha**2 / sigma**2)`` at t = 1; at least -20.
        shift: added to the log-SNR at every time, including both ends; from -6 to 6. Averaging ``k x k`` pixels
            increases the log-SNR by ``2 log k``. With a shift of ``-2 log k``, an image with ``k`` times the side
            length therefore loses its content at the same times as the small one (simple diffusion, arXiv:2301.11093,
            eq. 3 and 4).
    """

    log_snr_max: float = LOG_SNR_LIMIT
    log_snr_min: float = -LOG_SNR_LIMIT
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not -6 <= self.shift <= 6:
            raise CaptionlessError(
                f"`shift` of the cosine schedule must be from -6 to 6, not {self.shift}. For images with twice the "
                "side length, use -1.39."
            )
        if not 20 >= self.log_snr_max > self.log_snr_min >= -20:
            raise CaptionlessError(
                f"`log_snr_max` ({self.log_snr_max}) must be greater than `log_snr_min` ({self.log_snr_min}), and both "
                "must be from -20 to 20. Omit both to use the defaults."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        first = math.atan(math.exp(-0.5 * self.log_snr_max))
        last = math.atan(math.exp(-0.5 * self.log_snr_min))
        angle = first + t * (last - first)
        if self.shift == 0:
            return torch.cos(angle), torch.sin(angle)
        # Multiply sigma / alpha by a constant, then restore alpha**2 + sigma**2 = 1.
        alpha, sigma = torch.cos(angle), math.exp(-0.5 * self.shift) * torch.sin(angle)
        length = (alpha**2 + sigma**2).sqrt()
        return alpha / length, sigma / length


@dataclass(frozen=True)
class SigmoidSchedule:
    """The sigmoid schedule: ``alpha_bar`` is a section of a falling sigmoid, rescaled to run from 1 to 0.

    ``start`` and ``end`` are the arguments of the sigmoid at t = 0 and t = 1 (Jabri et al., arXiv:2212.11972, and Chen,
    arXiv:2301.10972, section 2.1; the latter divides both by a temperature). A wider range spends more time at the
    lowest and the highest noise levels.
    """

    start: float = -3.0
    end: float = 3.0

    def __post_init__(self) -> None:
        if not (-30 <= self.start <= 10 and self.start + 0.1 <= self.end <= 30):
            raise CaptionlessError(
                f"`start` of the sigmoid schedule must be from -30 to 10, and `end` from start + 0.1 to 30, not "
                f"{self.start} and {self.end}. Try -3 and 3."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        low, high = _sigmoid(self.start), _sigmoid(self.end)
        # The arguments of the sigmoid at which the log-SNR is +LIMIT and -LIMIT.
        trace = _sigmoid(-LOG_SNR_LIMIT)
        first = _logit(low + trace * (high - low))
        last = _logit(high - trace * (high - low))
        sigma2 = (torch.sigmoid(first + _wide(t) * (last - first)) - low) / (high - low)
        return (1 - sigma2).sqrt().to(t.dtype), sigma2.sqrt().to(t.dtype)


@dataclass(frozen=True)
class KarrasSchedule:
    """The noise levels of EDM, evenly spaced in ``level**(1 / rho)`` (Karras et al., arXiv:2206.00364, eq. 5).

    ``sigma_min`` and ``sigma_max`` are ``sigma / alpha`` at t = 0 and t = 1. A larger ``rho`` spends more time at low
    noise levels.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (1e-5 <= self.sigma_min < self.sigma_max <= 1e5 and 1 <= self.rho <= 100):
            raise CaptionlessError(
                "the karras schedule needs 1e-5 <= sigma_min < sigma_max <= 1e5 and rho from 1 to 100, not "
                f"{self.sigma_min}, {self.sigma_max} and {self.rho}. Omit all three to use the values of EDM."
            )

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        first, last = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        level = (first + _wide(t) * (last - first)) ** self.rho
        alpha = 1 / (1 + level**2).sqrt()
        return alpha.to(t.dtype), (level * alpha).to(t.dtype)


@dataclass(frozen=True)
class LinearSchedule:
    """The linear schedule of DDPM: ``beta`` increases linearly over T discrete steps (arXiv:2006.11239, section 4).

    Step k corresponds to the time k / T, at which ``alpha**2`` is exactly ``alpha_bar_k = prod(1 - beta_i)``; time 0 is
    the clean image. Between steps, ``alpha`` is interpolated linearly. If T is small, much of the image remains at
    t = 1 (``alpha_bar = 0.22`` for T = 150), although sampling starts from pure noise. Rescaling to zero terminal SNR
    corrects this (arXiv:2305.08891, algorithm 1), for all predictions except ``eps``.

    Args:
        steps: number of steps T.
        beta_start: ``beta`` of the first step.
        beta_end: ``beta`` of the last step.
        zero_terminal_snr: shift and scale ``alpha`` so that it is 0 at t = 1.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        valid = 2 <= self.steps <= MAX_STEPS and 0 < self.beta_start <= self.beta_end < 1
        if not valid or not bool((self.alpha.diff() < 0).all()):
            raise CaptionlessError(
                f"the linear schedule needs 2 to {MAX_STEPS:,} steps, 0 < beta_start <= beta_end < 1 and a strictly "
                f"decreasing alpha, not {self.steps}, {self.beta_start} and {self.beta_end}. Try 1000, 1e-4 and 0.02."
            )

    @cached_property
    def alpha(self) -> Tensor:
        """``alpha`` at the times 0, 1/T, ..., 1, shape (T + 1,), float64."""
        betas = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        alpha = (1 - betas).cumprod(0).sqrt()
        if self.zero_terminal_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        return torch.cat([torch.ones(1, dtype=torch.float64), alpha])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        place = _wide(t) * self.steps
        table = self._table(place.dtype, place.device)
        below = place.floor().clamp(max=self.steps - 1).long()
        alpha = torch.lerp(table[below], table[below + 1], place - below)
        return alpha.to(t), (1 - alpha**2).sqrt().to(t)

    @lru_cache  # noqa: B019  # schedules are few and small; a captured training step cannot copy from the host
    def _table(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.alpha.to(dtype).to(device)


@dataclass(frozen=True)
class FlowSchedule:
    """Linear interpolation between image and noise: ``alpha = 1 - t``, ``sigma = t``.

    It is the path of rectified flow (arXiv:2209.03003) and of flow matching with optimal transport (arXiv:2210.02747,
    eq. 22 with ``sigma_min = 0``), with the log-SNR truncated to ``LOG_SNR_LIMIT``. It is not variance-preserving.
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
    """Return the log-SNR ``log(alpha**2 / sigma**2)`` at times ``t``."""
    alpha, sigma = schedule.alpha_sigma(t)
    return 2 * (alpha.log() - sigma.log())


def time_at(schedule: Schedule, value: Tensor) -> Tensor:
    """Return the times, float64 in [0, 1], at which the log-SNR is ``value``; the inverse of ``log_snr``.

    The times are found by bisection, because the log-SNR is strictly decreasing. A value outside the schedule's range
    gives the nearer end, 0 or 1.
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
        x0: images in [-1, 1], or other data, one sample per row.
        eps: standard normal noise, shape of ``x0``.
        t: times, one per sample, (n,).
    """
    alpha, sigma = (value.to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1)) for value in schedule.alpha_sigma(t))
    return alpha * x0 + sigma * eps


def sampling_times(steps: int, start: float = 1.0) -> Tensor:
    """Return ``steps + 1`` evenly spaced times from ``start`` (1 is pure noise) down to 0 (the image), float64.

    Float64 is needed because some samplers divide by differences of the log-SNR.
    """
    return torch.linspace(start, 0.0, steps + 1, dtype=torch.float64)


def karras_times(schedule: Schedule, steps: int, start: float = 1.0) -> Tensor:
    """Return ``steps + 1`` times from ``start`` to 0 with the noise levels of EDM (arXiv:2206.00364, eq. 5).

    The noise levels do not depend on ``schedule``, except that they are limited to its range. If the noise level at
    ``start`` is above EDM's highest level, the first time is that of EDM's highest level.
    """
    even, levels = sampling_times(steps, start), KarrasSchedule()
    top, bottom = time_at(levels, log_snr(schedule, even[[0, -1]])).tolist()
    if top <= bottom:  # the noise level at the start is below EDM's lowest
        return even
    times = time_at(schedule, log_snr(levels, torch.linspace(top, bottom, steps, dtype=torch.float64)))
    return torch.cat([times, even[-1:]])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _wide(t: Tensor) -> Tensor:
    """Return times in float64, for the precision of ``1 - alpha**2``; in float32 on MPS, which has no float64."""
    return t.float() if t.device.type == "mps" else t.double()
