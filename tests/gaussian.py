"""Data whose ideal denoiser is known: a correlated Gaussian in two dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captionless.samplers import Sampler
from captionless.schedule import Schedule

MEAN = torch.tensor([0.4, -0.3], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.30, 0.12], [0.12, 0.10]], dtype=torch.float64)


def ideal_denoiser(schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """``E[x0 | xt] = m + alpha C (alpha^2 C + sigma^2 I)^-1 (xt - alpha m)`` for points xt, (n, 2)."""

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
        gain = alpha * COVARIANCE @ torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2))
        return MEAN + (xt - alpha * MEAN) @ gain.T

    return denoise


def exact_flow(schedule: Schedule, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Where the probability-flow ODE carries points ``x`` (n, 2) from one time to another.

    The marginal at a time is ``N(alpha m, alpha^2 C + sigma^2 I)``; along the ODE a point keeps its place in it,
    measured in the standard deviations of C's principal axes.
    """
    variances, axes = torch.linalg.eigh(COVARIANCE)
    (alpha_s, sigma_s), (alpha_e, sigma_e) = schedule.alpha_sigma(start), schedule.alpha_sigma(end)
    place = (x - alpha_s * MEAN) @ axes / (alpha_s**2 * variances + sigma_s**2).sqrt()
    return alpha_e * MEAN + (place * (alpha_e**2 * variances + sigma_e**2).sqrt()) @ axes.T


def sampled_moments(sampler: Sampler, schedule: Schedule, times: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what a sampler draws with the ideal denoiser: exact, without drawing.

    The denoiser is affine, hence so is the picture as a function of all the noise that went into it. Row 0
    starts from no noise at all and ends at the mean; each other row adds 1 to a single one of the noises.
    """
    draws = len(times)  # the initial noise and at most one more a step
    rows = torch.zeros(draws, 1 + 2 * draws, 2, dtype=torch.float64)
    for draw in range(draws):
        rows[draw, 1 + 2 * draw : 3 + 2 * draw] = torch.eye(2)
    later = iter(rows[1:])
    out = sampler(ideal_denoiser(schedule), rows[0], times, schedule, lambda: next(later))
    responses = out[1:] - out[0]
    return out[0], responses.T @ responses
