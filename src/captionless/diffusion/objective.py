"""The training objective: prediction targets, loss weighting, sampling of times, and augmentation of conditions.

A network predicts one of four quantities. Given ``xt``, each can be converted exactly into the others:

    eps    the noise                          DDPM, arXiv:2006.11239, eq. 14
    x0     the clean image
    v      alpha * eps - sigma * x0           Salimans & Ho, arXiv:2202.00512, section 4 and app. D
    flow   eps - x0                           rectified flow, arXiv:2209.03003, eq. 1

The default is ``v``, which is well scaled at all noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from captionless.config.training import PREDICTIONS, WEIGHTINGS
from captionless.diffusion.schedules import Schedule, add_noise, time_at
from captionless.errors import one_of

Network = Callable[..., Tensor]
"""A denoiser: ``(xt, t, condition) -> prediction``, with shapes (n, c, s, s), (n,), (n, d) -> (n, c, s, s).

For perturbed attention (``captionless.diffusion.guidance``), it takes a fourth argument: how far each row disables
self-attention, (n,).
"""

Denoise = Callable[[Tensor, Tensor], Tensor]
"""A function ``(xt, t) -> x0`` that predicts the clean images, (n, c, s, s), at a time ``t``, a scalar tensor."""

Coefficient = Tensor | float
"""``alpha`` or ``sigma``: one value for all images, or one per image, shape (n, 1, 1, 1)."""

MIN_SNR = 5.0
"""The gamma of min-SNR weighting (arXiv:2303.09556, section 4.2)."""

LEVEL_MEAN, LEVEL_STD = -1.2, 1.2
"""Mean and std of ``log(sigma / alpha)`` for the weighting ``log-normal`` (EDM, arXiv:2206.00364, table 1)."""

QUANTILE_LIMIT, QUANTILES = 4.8, 4097
"""The table of log-normal times covers normal quantiles up to this one, at this many points; between them, linear
interpolation is exact to 1e-6."""


def target(kind: str, x0: Tensor, eps: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """Return the training target of a network that predicts ``kind``, shape of ``x0``."""
    a, b = _coefficients(kind, alpha, sigma)
    return a * x0 + b * eps


def to_x0(kind: str, xt: Tensor, value: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """Convert a prediction ``value`` of ``kind`` at ``xt`` to ``x0``; ``kind="eps"`` requires ``alpha > 0``."""
    if kind == "x0":
        return value
    a, b = _coefficients(kind, alpha, sigma)
    return (b * xt - sigma * value) / (b * alpha - a * sigma)


def to_eps(kind: str, xt: Tensor, value: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """Convert a prediction ``value`` of ``kind`` at ``xt`` to ``eps``; ``kind="x0"`` requires ``sigma > 0``."""
    if kind == "eps":
        return value
    a, b = _coefficients(kind, alpha, sigma)
    return (alpha * value - a * xt) / (b * alpha - a * sigma)


def min_snr_weight(kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the min-SNR weight of the squared error of a prediction of ``kind`` (arXiv:2303.09556, eq. 8 and app.).

    In terms of ``x0``, the squared error is weighted by ``min(SNR, gamma)`` with ``SNR = alpha**2 / sigma**2``, so that
    nearly clean images, whose errors are invisible, do not dominate the loss. By ``to_x0``, an error in the prediction
    causes an error in ``x0`` that is ``sigma / (b * alpha - a * sigma)`` times as large.
    """
    alpha, sigma = alpha.clamp(min=1e-9), sigma.clamp(min=1e-9)  # avoids 0 / 0 at the ends
    a, b = _coefficients(kind, alpha, sigma)
    return torch.minimum(alpha**2, MIN_SNR * sigma**2) / (b * alpha - a * sigma) ** 2


def denoising_loss(
    network: Network,
    schedule: Schedule,
    x0: Tensor,
    condition: Tensor,
    t: Tensor,
    eps: Tensor,
    prediction: str = "v",
    weighting: str = "uniform",
) -> Tensor:
    """Return the weighted mean squared error of the prediction, a float32 scalar.

    With uniform ``t`` and ``prediction="eps"`` this is the simple loss of DDPM (arXiv:2006.11239, eq. 14). With
    ``prediction="v"`` it is the error of ``x0`` weighted by ``SNR + 1`` (arXiv:2202.00512, section 4).

    Args:
        network: the denoiser.
        schedule: the noise schedule.
        x0: images, (n, channels, size, size), in [-1, 1].
        condition: condition vectors, (n, d); the null condition (zeros) trains the unconditional prediction.
        t: times, (n,), in [0, 1].
        eps: standard normal noise, shape of ``x0``.
        prediction: the quantity that the network predicts.
        weighting: ``uniform``, ``min-snr`` or ``log-normal``; the last weights noise levels only through the
            distribution of ``t``, see ``training_times``.
    """
    one_of("weighting", weighting, WEIGHTINGS)
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    answer = network(add_noise(schedule, x0, eps, t), t, condition)
    error = (answer.float() - target(prediction, x0, eps, alpha, sigma)).square()
    if weighting == "min-snr":
        error = error * min_snr_weight(prediction, alpha, sigma)
    return error.mean()


def stratified_times(uniform: Tensor) -> Tensor:
    """Turn n uniform random numbers into stratified ones, one in each of n equal parts of [0, 1], in ascending order.

    Each batch then covers all noise levels evenly, which reduces the variance of the loss (low-discrepancy sampling of
    VDM, arXiv:2107.00630, app. I.1). Within its part each time is uniformly distributed, so over many batches all
    times in [0, 1] are equally likely. The images of the batch must be in random order.
    """
    n = len(uniform)
    return (torch.arange(n, device=uniform.device) + uniform) / n


def training_times(schedule: Schedule, uniform: Tensor, weighting: str = "uniform") -> Tensor:
    """Return the times of a batch, (n,), given n uniform random numbers: stratified, then as ``quantile_times``."""
    return quantile_times(schedule, stratified_times(uniform), weighting)


def quantile_times(schedule: Schedule, share: Tensor, weighting: str = "uniform") -> Tensor:
    """Return the times, (n,), below which the given shares of training times lie; shares are in [0, 1).

    By default, times are uniformly distributed, so that the schedule determines how often each noise level is trained.
    With ``log-normal``, ``log(sigma / alpha)`` is normally distributed for every schedule (EDM, arXiv:2206.00364,
    eq. 8), so that the intermediate noise levels, at which images take shape, are trained most often.
    """
    if weighting != "log-normal":
        return share
    # The normal quantiles of 0 and 1 are infinite. MPS has the error function's inverse, but not ``ndtri``.
    normal = math.sqrt(2) * torch.erfinv(2 * share.clamp(1e-6, 1 - 1e-6) - 1)
    place = (normal + QUANTILE_LIMIT) * ((QUANTILES - 1) / (2 * QUANTILE_LIMIT))
    below = place.floor().clamp(max=QUANTILES - 2).long()
    table = _log_normal_times(schedule, share.device)  # type: ignore[arg-type]  # schedules are hashable
    return torch.lerp(table[below], table[below + 1], (place - below).float())


@lru_cache
def _log_normal_times(schedule: Schedule, device: torch.device) -> Tensor:
    """Return the times at evenly spaced normal quantiles of the noise level, float32."""
    normal = torch.linspace(-QUANTILE_LIMIT, QUANTILE_LIMIT, QUANTILES, dtype=torch.float64)
    return time_at(schedule, -2 * (LEVEL_MEAN + LEVEL_STD * normal)).float().to(device)


def drop_condition(condition: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Replace whole vectors by the null condition (zeros) with probability ``share`` (arXiv:2207.12598, algorithm 1).

    Args:
        condition: condition vectors, (n, d).
        uniform: one uniform random number per image, (n,).
        share: the dropout probability, in [0, 1].
    """
    return condition * (uniform >= share).to(condition.dtype).unsqueeze(1)


def mask_condition(condition: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Set individual elements to 0 with probability ``share``.

    ``uniform`` has one uniform random number per element, (n, d). Introductory courses drop conditions this way. It is
    correct for one-hot class vectors, which have a single non-zero element. A dense vector is almost never dropped
    completely, so the network hardly learns the unconditional prediction that guidance requires. The difference is
    measured in ``docs/ablations.md``.
    """
    return condition * (uniform >= share).to(condition.dtype)


def noise_condition(condition: Tensor, eps: Tensor, cosine: float) -> Tensor:
    """Add noise to unit vectors, so that their cosine similarity to the originals is about ``cosine``, and renormalise.

    A denoiser trained only on exact image vectors does not generalise to text vectors, which lie near the image vectors
    but do not coincide with them. Noise with std ``sqrt((1 / c**2 - 1) / d)`` per element gives an expected cosine
    similarity of ``c`` (CapDec, arXiv:2211.00575; C3, arXiv:2401.08567).

    Args:
        condition: unit vectors, (n, d).
        eps: standard normal noise, (n, d).
        cosine: expected cosine similarity of noisy and original vectors, in (0, 1]; 1 leaves them unchanged.
    """
    if cosine == 1:
        return condition
    std = math.sqrt((1 / cosine**2 - 1) / condition.shape[1])
    return torch.nn.functional.normalize(condition + std * eps, dim=1)


def _coefficients(kind: str, alpha: Coefficient, sigma: Coefficient) -> tuple[Coefficient, Coefficient]:
    """Return ``(a, b)`` such that the predicted quantity is ``a * x0 + b * eps``."""
    match kind:
        case "eps":
            return 0.0, 1.0
        case "x0":
            return 1.0, 0.0
        case "v":
            return -sigma, alpha
        case "flow":
            return -1.0, 1.0
    one_of("prediction", kind, PREDICTIONS)
    raise AssertionError(kind)
