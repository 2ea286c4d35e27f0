"""Data whose ideal denoiser and whose exact flow are known: a correlated Gaussian, and a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captionless.diffusion.objective import Denoise
from captionless.diffusion.reverse import ReverseProcess
from captionless.diffusion.sampler_run import run_sampler
from captionless.diffusion.samplers import Sampler
from captionless.diffusion.schedules import Schedule


class StraightLine:
    """The flow path, not cut at its ends: pure noise at 1, the clean image at 0, and variance not preserved."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t


# --- a Gaussian in two dimensions: everything is affine ---

MEAN = torch.tensor([0.4, -0.3], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.30, 0.12], [0.12, 0.10]], dtype=torch.float64)


def ideal_denoiser(schedule: Schedule) -> Denoise:
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


def exact_moments(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the marginal at a time; those of the data at time 0."""
    alpha, sigma = schedule.alpha_sigma(t) if t > 0 else (1.0, 0.0)
    return alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * torch.eye(2)


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
    out = run_sampler(sampler(rows[0], ReverseProcess(schedule, times, lambda: next(later))), ideal_denoiser(schedule))
    responses = out[1:] - out[0]
    return out[0], responses.T @ responses


# --- a mixture of two Gaussians on the line: nothing is linear ---

WEIGHTS = torch.tensor([0.6, 0.4], dtype=torch.float64)
CENTRES = torch.tensor([-0.6, 0.7], dtype=torch.float64)
VARIANCES = torch.tensor([0.09, 0.04], dtype=torch.float64)


def mixture_denoiser(schedule: Schedule) -> Denoise:
    """``E[x0 | xt]`` for points xt, (n, 1): each Gaussian's own, weighted by how likely xt comes from it."""

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
        spread = alpha**2 * VARIANCES + sigma**2
        off = xt - alpha * CENTRES
        share = torch.softmax(WEIGHTS.log() - 0.5 * spread.log() - 0.5 * off**2 / spread, dim=1)
        return (share * (CENTRES + alpha * VARIANCES / spread * off)).sum(1, keepdim=True)

    return denoise


def mixture_cdf(schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """How much of the marginal at a time lies below each point x, (n, 1)."""
    alpha, sigma = schedule.alpha_sigma(t) if t > 0 else (1.0, 0.0)
    std = (alpha**2 * VARIANCES + sigma**2).sqrt()
    return (WEIGHTS * torch.special.ndtr((x - alpha * CENTRES) / std)).sum(1, keepdim=True)


def mixture_flow(schedule: Schedule, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Where the probability-flow ODE carries points (n, 1): on a line nobody overtakes, so quantiles are kept."""
    return mixture_quantiles(schedule, mixture_cdf(schedule, x, start), end)


def mixture_quantiles(schedule: Schedule, below: Tensor, t: Tensor) -> Tensor:
    """The points of the marginal at a time that have the given shares, (n, 1), below them."""
    low, high = torch.full_like(below, -9.0), torch.full_like(below, 9.0)
    for _ in range(60):
        middle = (low + high) / 2
        beyond = mixture_cdf(schedule, middle, t) > below
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return (low + high) / 2


def even_shares(n: int) -> Tensor:
    """The middles of n equal parts of [0, 1], (n, 1)."""
    return ((torch.arange(n, dtype=torch.float64) + 0.5) / n).unsqueeze(1)


def distance_to_mixture(
    sampler: Sampler, schedule: Schedule, times: Tensor, noise: Callable[[], Tensor] | None, n: int
) -> float:
    """The Wasserstein-1 distance of n samples to the data: how far, on average, they must move to be its quantiles.

    They start from the quantiles of pure noise, so that without later noise nothing is left to chance.
    """
    shares = even_shares(n)
    sampling = sampler(torch.special.ndtri(shares), ReverseProcess(schedule, times, noise))
    samples = run_sampler(sampling, mixture_denoiser(schedule))
    data = mixture_quantiles(schedule, shares, torch.zeros((), dtype=torch.float64))
    return float((samples.sort(0).values - data).abs().mean())
