"""Samplers: from noise to picture, each a pure function of one contract.

    sample(denoise, x, times, schedule, noise, callback) -> pictures in about [-1, 1]

``denoise(xt, t)`` predicts the clean picture ``x0``; ``times`` falls from 1 to 0 (float64); ``noise()`` gives
fresh standard normal noise of the shape of ``x``, each picture's from its own generator;
``callback(step, t, x, x0)`` sees every step. In all of them the symbols are those of the papers:
``x = alpha * x0 + sigma * eps``, and ``lambda = log(alpha / sigma)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from captionless.guidance import Denoise
from captionless.schedule import Schedule

Callback = Callable[[int, float, Tensor, Tensor], None]


class Sampler(Protocol):
    """The contract of every sampler below."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        times: Tensor,
        schedule: Schedule,
        noise: Callable[[], Tensor],
        callback: Callback | None = None,
    ) -> Tensor:
        """Return the pictures that ``x``, pure noise at ``times[0]``, turns into."""
        ...


def ddpm(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    noise: Callable[[], Tensor],
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling from the posterior ``q(xs | xt, x0)`` (DDPM, arXiv:2006.11239, eq. 6 and 7).

    The variance is the posterior's own (the paper's lower choice), for any spacing of times.
    """
    for step, (t, s) in enumerate(itertools.pairwise(times)):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = _levels(schedule, t), _levels(schedule, s)
        x0 = denoise(x, t)
        if callback:
            callback(step, float(t), x, x0)
        if s == 0:
            return x0
        # One step of the chain: alpha_t = alpha_s * a and sigma_t^2 = a^2 * sigma_s^2 + beta.
        a = alpha_t / alpha_s
        beta = sigma_t**2 - a**2 * sigma_s**2
        mean = (a * sigma_s**2 / sigma_t**2) * x + (alpha_s * beta / sigma_t**2) * x0
        x = mean + (sigma_s / sigma_t) * beta**0.5 * noise()
    return x


def ddim(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    noise: Callable[[], Tensor],
    callback: Callback | None = None,
) -> Tensor:
    """Deterministic implicit sampling (DDIM, arXiv:2010.02502, eq. 12 with eta = 0)."""
    for step, (t, s) in enumerate(itertools.pairwise(times)):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = _levels(schedule, t), _levels(schedule, s)
        x0 = denoise(x, t)
        if callback:
            callback(step, float(t), x, x0)
        if s == 0:
            return x0
        eps = (x - alpha_t * x0) / sigma_t
        x = alpha_s * x0 + sigma_s * eps
    return x


def dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    schedule: Schedule,
    noise: Callable[[], Tensor],
    callback: Callback | None = None,
) -> Tensor:
    """Second-order multistep solver in log-SNR (DPM-Solver++ 2M, arXiv:2211.01095, algorithm 2).

    The last step, to the clean picture, is of first order: its step in ``lambda`` is unbounded.
    """
    before: Tensor | None = None
    h_before = 0.0
    for step, (t, s) in enumerate(itertools.pairwise(times)):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = _levels(schedule, t), _levels(schedule, s)
        x0 = denoise(x, t)
        if callback:
            callback(step, float(t), x, x0)
        if s == 0:
            return x0
        ratio = (alpha_t * sigma_s) / (sigma_t * alpha_s)  # exp(-h)
        h = -float(torch.log(torch.tensor(ratio, dtype=torch.float64)))
        # Extrapolate x0 to the middle of the step from this prediction and the one before.
        slope = 0.0 if before is None else 0.5 * h / h_before
        estimate = x0 if before is None else (1 + slope) * x0 - slope * before
        x = (sigma_s / sigma_t) * x + alpha_s * (1 - ratio) * estimate
        before, h_before = x0, h
    return x


SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpmpp-2m": dpmpp_2m}
"""The names that ``captionless.sampling`` knows."""


def _levels(schedule: Schedule, t: Tensor) -> tuple[float, float]:
    alpha, sigma = schedule.alpha_sigma(t)
    return float(alpha), float(sigma)
