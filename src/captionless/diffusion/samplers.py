"""Samplers, which turn noise into images. Each is a generator function with the same interface.

    sampler(x, process, *, options)     yields (x, t), receives x0, returns images in about [-1, 1]

``x`` is pure noise, or a noisy image, at ``process.times[0]``. Each step leads from the noise level ``t`` to ``s``. The
symbols follow the papers: ``x = alpha * x0 + sigma * eps``, ``lambda = log(alpha / sigma)`` and
``h = lambda_s - lambda_t``. The samplers do not assume ``alpha**2 + sigma**2 = 1`` and do not divide by ``alpha_t``,
which may be 0. To run a sampler, call ``captionless.diffusion.run_sampler``:

    images = run_sampler(ddim(x, process), denoise)

All deterministic samplers solve the probability-flow ODE, whose linear part they integrate exactly. If the prediction
``x0`` were constant, ``follow`` would be the exact solution of a step. Because it is not, the samplers call ``follow``
with different estimates of the mean ``x0`` of the step:

    ddim, euler       the current prediction x0
    dpmpp_2m          x0, linearly extrapolated from the last two predictions to the middle of the step
    heun              x0, moved towards a second prediction at the end of the step
    unipc             as dpmpp_2m; the next prediction then corrects the step, using all three predictions

The stochastic samplers replace part of the noise by new noise: ``ddpm``, ``dpmpp_2m_sde``, and ``ddim`` and
``euler_ancestral`` with ``eta > 0``. The option ``churn`` of ``heun`` and ``euler`` adds noise before a step.

Each step takes one (guided) prediction, except with ``heun``, which takes two per step and one for the last step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Concatenate

import torch
from torch import Tensor

from captionless.diffusion.reverse import NoiseLevel, ReverseProcess, Sampling
from captionless.diffusion.schedules import time_at

Sampler = Callable[Concatenate[Tensor, ReverseProcess, ...], Sampling]
"""The interface of every sampler: ``(x, process, **options) -> Sampling``."""


def ddpm(x: Tensor, process: ReverseProcess, *, variance: str = "lower") -> Sampling:
    """Ancestral sampling of DDPM (arXiv:2006.11239, eq. 6 and 7), for any spacing of times.

    Args:
        variance: one of the two variances of section 3.2. ``lower`` is the variance of the posterior
            ``q(xs | xt, x0)``, optimal if the data are a single image. ``upper`` is ``beta`` for variance-preserving
            schedules, optimal if the data are white noise.
    """
    for t, s in process.steps():
        x0 = yield x, t
        # The forward process from s to t: alpha_t = a * alpha_s and sigma_t^2 = a^2 * sigma_s^2 + beta.
        a, beta = t.alpha / s.alpha, t.sigma**2 * (1 - _decay(t, s) ** 2)
        mean = (a * s.sigma**2 / t.sigma**2) * x + (s.alpha * beta / t.sigma**2) * x0
        std = _posterior_std(t, s)
        if variance == "upper" and s.sigma > 0:
            std = math.sqrt(beta * (s.alpha**2 + s.sigma**2) / (t.alpha**2 + t.sigma**2))
        x = mean + process.draw(std)
    return x


def ddim(x: Tensor, process: ReverseProcess, *, eta: float = 0.0) -> Sampling:
    """Sampling of DDIM (arXiv:2010.02502, eq. 12, with the noise of eq. 16).

    Args:
        eta: scale of the new noise; 0 is deterministic, 1 equals ``ddpm``.
    """
    for t, s in process.steps():
        x0 = yield x, t
        eps = (x - t.alpha * x0) / t.sigma
        std = min(eta * _posterior_std(t, s), s.sigma)
        x = s.alpha * x0 + math.sqrt(s.sigma**2 - std**2) * eps + process.draw(std)
    return x


def dpmpp_2m(x: Tensor, process: ReverseProcess) -> Sampling:
    """DPM-Solver++ 2M (arXiv:2211.01095, algorithm 2), a second-order method that uses the last two predictions.

    The first step has no earlier prediction and the step to the clean image has infinite ``h``, so both are
    first-order.
    """
    before, h_before = x, math.inf  # no previous prediction; an infinite h_before makes its weight 0
    for t, s in process.steps():
        x0 = yield x, t
        h = s.lam - t.lam
        x = follow(x, x0 + 0.5 * _ratio(h, h_before) * (x0 - before), t, s)
        before, h_before = x0, h
    return x


def dpmpp_2m_sde(x: Tensor, process: ReverseProcess, *, eta: float = 1.0) -> Sampling:
    """SDE-DPM-Solver++ 2M (arXiv:2211.01095, section 5), which is ``dpmpp_2m`` with new noise in every step.

    Args:
        eta: scale of the new noise, as in k-diffusion; 1 is the reverse SDE of the paper, 0 equals ``dpmpp_2m``.
    """
    before, h_before = x, math.inf
    for t, s in process.steps():
        x0 = yield x, t
        h, decay = s.lam - t.lam, _decay(t, s)
        x0_middle = x0 + 0.5 * _ratio(h, h_before) * (x0 - before)
        x = (s.sigma / t.sigma * decay**eta) * x + (s.alpha * (1 - decay ** (1 + eta))) * x0_middle
        x = x + process.draw(s.sigma * math.sqrt(1 - decay ** (2 * eta)))
        before, h_before = x0, h
    return x


def heun(x: Tensor, process: ReverseProcess, *, churn: float = 0.0) -> Sampling:
    """Heun's method of EDM (arXiv:2206.00364, algorithms 1 and 2).

    EDM works in the coordinates ``x / alpha`` and ``sigma / alpha``. There, averaging the slopes ``(x - x0) / sigma``
    at both ends of a step is equivalent to following the ``x0`` computed below. Steps from pure noise and to the clean
    image are Euler steps. If ``sigma / alpha`` falls by a large factor in one step, the second prediction gets a large
    weight, so this sampler is inaccurate with few steps, whatever the spacing of times.

    Args:
        churn: ``S_churn`` of the paper, applied at all noise levels; 0 is deterministic (algorithm 1).
    """
    for t, s in process.steps():
        x_hat, hat = _churned(x, t, process, churn)
        x0 = yield x_hat, hat
        x = follow(x_hat, x0, hat, s)
        if s.sigma > 0 and hat.alpha > 0:
            x0_end = yield x, s
            x = follow(x_hat, x0 + (x0_end - x0) / (2 * _decay(hat, s)), hat, s)
    return x


def euler(x: Tensor, process: ReverseProcess, *, churn: float = 0.0) -> Sampling:
    """Euler's method of EDM (arXiv:2206.00364, algorithm 2 without lines 9 to 11).

    An Euler step in the coordinates ``x / alpha`` and ``sigma / alpha`` is a step of DDIM, so with ``churn=0`` the
    results equal those of ``ddim``.

    Args:
        churn: as in ``heun``.
    """
    for t, s in process.steps():
        x_hat, hat = _churned(x, t, process, churn)
        x0 = yield x_hat, hat
        x = follow(x_hat, x0, hat, s)
    return x


def euler_ancestral(x: Tensor, process: ReverseProcess, *, eta: float = 1.0) -> Sampling:
    """Euler ancestral sampling, as in k-diffusion.

    Each step goes below the target noise level and then adds new noise to reach it. The results equal those of ``ddim``
    with the same ``eta``.

    Args:
        eta: scale of the new noise; 0 equals ``euler``.
    """
    for t, s in process.steps():
        x0 = yield x, t
        sigma_up = min(eta * _posterior_std(t, s), s.sigma)
        sigma_down = math.sqrt(s.sigma**2 - sigma_up**2)
        x = follow(x, x0, t, NoiseLevel(s.t, s.alpha, sigma_down)) + process.draw(sigma_up)
    return x


def unipc(x: Tensor, process: ReverseProcess) -> Sampling:
    """UniPC-2 (arXiv:2302.04867, section 3): UniP-2 and UniC-2 for data prediction with ``B2(h) = e^h - 1``.

    Each prediction is used twice, to correct the previous step (UniC) and to take the next one (UniP). The first step
    uses the first-order UniP-1 and UniC-1; the last step is first-order and is not corrected.
    """
    # The start r of the previous step, its images x_r and prediction m0, and the expected change D1 of x0 in it.
    r, x_r, m0, D1 = process.level(process.times[0]), x, x, torch.zeros_like(x)
    h, ratio = math.inf, 0.0
    for t, s in process.steps():
        x0 = yield x, t
        if t.step:  # UniC: repeat the previous step
            slope, end = _unic_weights(h, ratio)
            x = follow(x_r, m0 + slope * D1 + end * (x0 - m0), r, t)
        h, ratio = s.lam - t.lam, _ratio(s.lam - t.lam, h)
        D1 = ratio * (x0 - m0)
        r, x_r, m0 = t, x, x0
        x = follow(x, m0 + 0.5 * D1, t, s)  # UniP
    return x


SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "heun": heun,
    "euler": euler,
    "euler-ancestral": euler_ancestral,
    "unipc": unipc,
}
"""The samplers by their names in ``captionless.config.sampling``."""


def follow(x: Tensor, x0: Tensor, t: NoiseLevel, s: NoiseLevel) -> Tensor:
    """Return the exact solution of the probability-flow ODE from ``t`` to ``s`` for a constant prediction ``x0``.

    ``xs = sigma_s / sigma_t * xt + alpha_s * (1 - e^-h) * x0``, which is a step of DDIM (DPM-Solver++,
    arXiv:2211.01095, eq. 8 with a constant prediction).
    """
    return (s.sigma / t.sigma) * x + (s.alpha * (1 - _decay(t, s))) * x0


def _decay(t: NoiseLevel, s: NoiseLevel) -> float:
    """Return ``e^-h``, the factor by which ``sigma / alpha`` falls; 0 from pure noise and to the clean image."""
    return min((t.alpha * s.sigma) / (t.sigma * s.alpha), 1.0)


def _ratio(h: float, h_before: float) -> float:
    """Return ``h / h_before``, or 0 if extrapolation is impossible (an infinite step, or two equal noise levels)."""
    return h / h_before if h < math.inf and h_before > 0 else 0.0


def _posterior_std(t: NoiseLevel, s: NoiseLevel) -> float:
    """Return the std of ``q(xs | xt, x0)`` (DDPM, arXiv:2006.11239, eq. 7; DDIM, eq. 16 with eta = 1)."""
    return s.sigma * math.sqrt(1 - _decay(t, s) ** 2)


def _unic_weights(h: float, ratio: float) -> tuple[float, float]:
    """Return the UniC-2 weights of the slope and of the prediction at the end (arXiv:2302.04867, theorem 3.1).

    With these weights, a step is exact if ``x0`` is quadratic in ``lambda``. If ``ratio`` is 0, they are those of
    UniC-1.
    """
    if ratio <= 0:
        return 0.0, 0.5
    B = math.expm1(-h)
    phi2 = B / -h - 1
    phi3 = phi2 / -h - 1 / 2
    slope = (phi2 - 2 * phi3) / B * ratio / (1 + ratio)
    return slope, phi2 / B - slope


def _churned(x: Tensor, t: NoiseLevel, process: ReverseProcess, churn: float) -> tuple[Tensor, NoiseLevel]:
    """Add noise that raises ``sigma / alpha`` by a factor of ``1 + gamma`` (EDM, arXiv:2206.00364, alg. 2, lines 4-6).

    The noise level never exceeds the schedule's maximum, so no noise is added at time 1.
    """
    gamma = min(churn / (len(process.times) - 1), math.sqrt(2) - 1)
    if gamma == 0 or t.alpha == 0:
        return x, t
    log_snr = torch.tensor(2 * (t.lam - math.log1p(gamma)), dtype=torch.float64)
    hat = process.level(time_at(process.schedule, log_snr), t.step)
    kept = hat.alpha / t.alpha
    std = math.sqrt(max(hat.sigma**2 - (kept * t.sigma) ** 2, 0.0))
    return kept * x + process.draw(std), hat
