"""Samplers: from noise to images, each a pure generator function of one contract.

    sampler(x, process, *, options)     yields (x, t), is sent x0, returns images in about [-1, 1]

``x`` is pure noise, or a noisy image, at ``process.times[0]``. Each step leads from the level ``t`` to ``s``; the
symbols are those of the papers: ``x = alpha * x0 + sigma * eps``, ``lambda = log(alpha / sigma)`` and
``h = lambda_s - lambda_t``. Nothing assumes ``alpha**2 + sigma**2 = 1``, nor divides by ``alpha_t``, which may be 0.
``captionless.diffusion.reverse`` drives them: ``images = drive(ddim(x, process), denoise)``.

Without noise, all of them solve one equation, and most of it exactly. If the prediction ``x0`` were constant, a step
would be ``follow``, which is DDIM. It is not, and the solvers differ only in the image they put in its place:

    ddim, euler       x0
    dpmpp_2m          x0 half a step ahead, on the line through this prediction and the last one
    heun              x0 moved towards a second prediction, made at the end of the step
    unipc             as dpmpp_2m, and once the end of the step is predicted, the step again with all three

The others replace some of the old noise by fresh noise: ddpm, ddim and euler_ancestral with eta, dpmpp_2m_sde; churn
adds noise before a step.

Each step takes one (guided) prediction, except for ``heun``: two, and one for the last step.
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
"""The contract of every sampler: ``(x, process, **options) -> Sampling``."""


def ddpm(x: Tensor, process: ReverseProcess, *, variance: str = "lower") -> Sampling:
    """Ancestral sampling of DDPM, arXiv:2006.11239, eq. 6 and 7, for any spacing of times.

    Args:
        variance: the two choices of section 3.2: ``lower``, that of the posterior ``q(xs | xt, x0)``, is right where
            the data are a single image; ``upper``, ``beta`` if variance is preserved, where they are white noise.
    """
    for t, s in process.steps():
        x0 = yield x, t
        # One step of the chain: alpha_t = a * alpha_s and sigma_t^2 = a^2 * sigma_s^2 + beta.
        a, beta = t.alpha / s.alpha, t.sigma**2 * (1 - _decay(t, s) ** 2)
        mean = (a * s.sigma**2 / t.sigma**2) * x + (s.alpha * beta / t.sigma**2) * x0
        std = _posterior_std(t, s)
        if variance == "upper" and s.sigma > 0:
            std = math.sqrt(beta * (s.alpha**2 + s.sigma**2) / (t.alpha**2 + t.sigma**2))
        x = mean + process.draw(std)
    return x


def ddim(x: Tensor, process: ReverseProcess, *, eta: float = 0.0) -> Sampling:
    """Implicit sampling of DDIM, arXiv:2010.02502, eq. 12, with the noise of eq. 16.

    Args:
        eta: 0 is deterministic, 1 is ``ddpm``.
    """
    for t, s in process.steps():
        x0 = yield x, t
        eps = (x - t.alpha * x0) / t.sigma
        std = min(eta * _posterior_std(t, s), s.sigma)
        x = s.alpha * x0 + math.sqrt(s.sigma**2 - std**2) * eps + process.draw(std)
    return x


def dpmpp_2m(x: Tensor, process: ReverseProcess) -> Sampling:
    """DPM-Solver++ 2M, arXiv:2211.01095, algorithm 2: of second order, from the last two predictions.

    The first step is of first order, and the last, to the clean image: its ``h`` is infinite.
    """
    before, h_before = x, math.inf  # no prediction yet, hence infinitely far away
    for t, s in process.steps():
        x0 = yield x, t
        h = s.lam - t.lam
        x = follow(x, x0 + 0.5 * _ratio(h, h_before) * (x0 - before), t, s)
        before, h_before = x0, h
    return x


def dpmpp_2m_sde(x: Tensor, process: ReverseProcess, *, eta: float = 1.0) -> Sampling:
    """SDE-DPM-Solver++ 2M, arXiv:2211.01095, section 5: ``dpmpp_2m`` with fresh noise in every step.

    Args:
        eta: scales the noise, as in k-diffusion: 1 is the paper's reverse SDE, 0 is ``dpmpp_2m``.
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
    """Heun's method of EDM, arXiv:2206.00364, algorithms 1 and 2, in its coordinates ``x / alpha``, ``sigma / alpha``.

    There the mean of the slopes ``(x - x0) / sigma`` at both ends of a step is, multiplied out, the image below.
    Steps to the clean image and from pure noise are Euler's. Where ``sigma / alpha`` falls to a small part in one
    step, the second prediction weighs heavily: few steps are not its strength, however they are spaced.

    Args:
        churn: the paper's ``S_churn``, for all noise levels; 0 is deterministic (algorithm 1).
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
    """Euler's method of EDM, arXiv:2206.00364, algorithm 2 without lines 9 to 11.

    A straight line in ``x / alpha`` over ``sigma / alpha`` is DDIM: without churn this is ``ddim``.

    Args:
        churn: as in ``heun``.
    """
    for t, s in process.steps():
        x_hat, hat = _churned(x, t, process, churn)
        x0 = yield x_hat, hat
        x = follow(x_hat, x0, hat, s)
    return x


def euler_ancestral(x: Tensor, process: ReverseProcess, *, eta: float = 1.0) -> Sampling:
    """Euler ancestral sampling, as in k-diffusion: step below the target noise level, then add fresh noise to reach it.

    The results equal those of ``ddim`` with the same ``eta``, derived in EDM's terms.

    Args:
        eta: scales the fresh noise; 0 is ``euler``.
    """
    for t, s in process.steps():
        x0 = yield x, t
        sigma_up = min(eta * _posterior_std(t, s), s.sigma)
        sigma_down = math.sqrt(s.sigma**2 - sigma_up**2)
        x = follow(x, x0, t, NoiseLevel(s.t, s.alpha, sigma_down)) + process.draw(sigma_up)
    return x


def unipc(x: Tensor, process: ReverseProcess) -> Sampling:
    """UniPC-2, arXiv:2302.04867, section 3: UniP-2 and UniC-2 of the data prediction with ``B2(h) = e^h - 1``.

    Every prediction serves twice: to correct the step that led to it, and to take the next. Of lower order are the
    first step (UniP-1, UniC-1) and the last, whose end is not predicted again.
    """
    # Of the step before, which led here from r; none yet. D1 is the change of x0 that was expected of it.
    r, x_r, m0, D1 = process.level(process.times[0]), x, x, torch.zeros_like(x)
    h, ratio = math.inf, 0.0
    for t, s in process.steps():
        x0 = yield x, t
        if t.step:  # UniC: that step once more
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
"""The sampler names that ``captionless.config.sampling`` accepts."""


def follow(x: Tensor, x0: Tensor, t: NoiseLevel, s: NoiseLevel) -> Tensor:
    """Return where the probability-flow ODE carries ``x`` from ``t`` to ``s`` while ``x0`` stays the same.

    ``xs = sigma_s / sigma_t * xt + alpha_s * (1 - e^-h) * x0``: exact, and the one step of DDIM
    (DPM-Solver++, arXiv:2211.01095, eq. 8 with a constant prediction).
    """
    return (s.sigma / t.sigma) * x + (s.alpha * (1 - _decay(t, s))) * x0


def _decay(t: NoiseLevel, s: NoiseLevel) -> float:
    """``e^-h``, the factor by which ``sigma / alpha`` falls: 0 from pure noise, and to the clean image."""
    return min((t.alpha * s.sigma) / (t.sigma * s.alpha), 1.0)


def _ratio(h: float, h_before: float) -> float:
    """``h / h_before``, and 0 where no line leads on: either is infinite, or a time came twice."""
    return h / h_before if h < math.inf and h_before > 0 else 0.0


def _posterior_std(t: NoiseLevel, s: NoiseLevel) -> float:
    """The standard deviation of ``q(xs | xt, x0)`` (DDPM, arXiv:2006.11239, eq. 7; DDIM, eq. 16 with eta = 1)."""
    return s.sigma * math.sqrt(1 - _decay(t, s) ** 2)


def _unic_weights(h: float, ratio: float) -> tuple[float, float]:
    """The weights of the slope and of the prediction at the end in UniC-2 (arXiv:2302.04867, theorem 3.1).

    With them a step is exact for every ``x0`` that is a parabola in ``lambda``. Without a slope: UniC-1.
    """
    if ratio <= 0:
        return 0.0, 0.5
    B = math.expm1(-h)
    phi2 = B / -h - 1
    phi3 = phi2 / -h - 1 / 2
    slope = (phi2 - 2 * phi3) / B * ratio / (1 + ratio)
    return slope, phi2 / B - slope


def _churned(x: Tensor, t: NoiseLevel, process: ReverseProcess, churn: float) -> tuple[Tensor, NoiseLevel]:
    """Add noise until ``sigma / alpha`` is ``1 + gamma`` times as high (EDM, arXiv:2206.00364, alg. 2, lines 4 to 6).

    The schedule's noisiest level is the limit: at time 1 nothing is added.
    """
    gamma = min(churn / (len(process.times) - 1), math.sqrt(2) - 1)
    if gamma == 0 or t.alpha == 0:
        return x, t
    log_snr = torch.tensor(2 * (t.lam - math.log1p(gamma)), dtype=torch.float64)
    hat = process.level(time_at(process.schedule, log_snr), t.step)
    kept = hat.alpha / t.alpha
    std = math.sqrt(max(hat.sigma**2 - (kept * t.sigma) ** 2, 0.0))
    return kept * x + process.draw(std), hat
