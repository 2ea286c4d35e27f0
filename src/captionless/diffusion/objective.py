"""The training objective: the prediction, its loss and weighting, and the augmentation of conditions.

A network may predict any of four quantities; each follows from any other and ``xt``, exactly, for every schedule:

    eps    the noise                          DDPM, arXiv:2006.11239, eq. 14
    x0     the clean image
    v      alpha * eps - sigma * x0           Salimans & Ho, arXiv:2202.00512, section 4 and app. D
    flow   eps - x0                           rectified flow, arXiv:2209.03003, eq. 1

The default is ``v``, which stays well scaled from pure noise to clean image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from captionless.config.training import PREDICTIONS, WEIGHTINGS
from captionless.diffusion.schedules import Schedule, add_noise, time_at
from captionless.errors import one_of

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A denoiser: ``(xt, t, condition) -> prediction``, with shapes (n, c, s, s), (n,), (n, d) -> (n, c, s, s)."""

Denoise = Callable[[Tensor, Tensor], Tensor]
"""A function ``(xt, t) -> x0``: the predicted clean images, (n, c, s, s), at one time, a scalar tensor."""

Coefficient = Tensor | float
"""An ``alpha`` or a ``sigma``: one for all images, or one per image, shaped (n, 1, 1, 1)."""

MIN_SNR = 5.0
"""The gamma of min-SNR weighting (arXiv:2303.09556, section 4.2)."""

LEVEL_MEAN, LEVEL_STD = -1.2, 1.2
"""Mean and std of ``log(sigma / alpha)`` in training with log-normal levels (EDM, arXiv:2206.00364, table 1)."""


def target(kind: str, x0: Tensor, eps: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """Return the target of a network that predicts ``kind``, in the shape of ``x0``."""
    a, b = _coefficients(kind, alpha, sigma)
    return a * x0 + b * eps


def to_x0(kind: str, xt: Tensor, value: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """Return the image that the prediction ``value`` of ``kind`` at ``xt`` implies; ``eps`` needs ``alpha > 0``."""
    if kind == "x0":
        return value
    a, b = _coefficients(kind, alpha, sigma)
    return (b * xt - sigma * value) / (b * alpha - a * sigma)


def to_eps(kind: str, xt: Tensor, value: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """Return the noise that the prediction ``value`` of ``kind`` at ``xt`` implies; ``x0`` needs ``sigma > 0``."""
    if kind == "eps":
        return value
    a, b = _coefficients(kind, alpha, sigma)
    return (alpha * value - a * xt) / (b * alpha - a * sigma)


def min_snr_weight(kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the weight of a squared error in ``kind``, so that one in ``x0`` weighs ``min(SNR, gamma)``.

    Min-SNR weighting (arXiv:2303.09556, eq. 8 and app.): nearly clean images, whose errors are invisible, no
    longer outweigh all others. By ``to_x0`` an error in the prediction is ``sigma / (b * alpha - a * sigma)`` of it in
    ``x0``, and ``SNR = alpha**2 / sigma**2``.
    """
    alpha, sigma = alpha.clamp(min=1e-9), sigma.clamp(min=1e-9)  # 0 / 0 at the ends
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
    """Return the (weighted) mean squared error of the prediction, a scalar in float32.

    With ``t`` uniform and ``prediction="eps"`` this is the simple loss of DDPM (arXiv:2006.11239, eq. 14); with ``v``
    the same weighted by ``SNR + 1`` (in terms of ``x0``; arXiv:2202.00512, section 4).

    Args:
        network: the denoiser.
        schedule: the noise schedule.
        x0: images, (n, channels, size, size), in [-1, 1].
        condition: (n, d), with the null condition where the unconditional prediction is to be trained.
        t: times, (n,), in [0, 1].
        eps: standard normal noise of the shape of ``x0``.
        prediction: what the network predicts.
        weighting: ``uniform``, ``min-snr`` or ``log-normal`` (which weighs by where ``training_times`` puts ``t``).
    """
    one_of("weighting", weighting, WEIGHTINGS)
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    answer = network(add_noise(schedule, x0, eps, t), t, condition)
    error = (answer.float() - target(prediction, x0, eps, alpha, sigma)).square()
    if weighting == "min-snr":
        error = error * min_snr_weight(prediction, alpha, sigma)
    return error.mean()


def stratified_times(uniform: Tensor) -> Tensor:
    """Spread n uniform random numbers so that each n-th of [0, 1] holds exactly one, in ascending order.

    A batch then covers all noise levels evenly, which lowers the variance of the loss
    (low-discrepancy sampling of VDM, arXiv:2107.00630, app. I.1). Within its n-th each time stays uniform, so
    over many batches every time in [0, 1] is equally likely. The order of the batch's images must be random.
    """
    n = len(uniform)
    return (torch.arange(n, device=uniform.device) + uniform) / n


def training_times(schedule: Schedule, uniform: Tensor, weighting: str = "uniform") -> Tensor:
    """Return the times of a batch, (n,), from as many uniform random numbers.

    Uniform in time, so that the schedule weights the noise levels; or, for ``log-normal``, such that
    ``log(sigma / alpha)`` is normal whatever the schedule (EDM, arXiv:2206.00364, eq. 8): middle levels, where
    images take shape, are trained most.
    """
    t = stratified_times(uniform)
    if weighting != "log-normal":
        return t
    # The ends are left out: there the normal distribution runs to infinity.
    normal = torch.special.ndtri(t.double().cpu().clamp(1e-6, 1 - 1e-6))
    return time_at(schedule, -2 * (LEVEL_MEAN + LEVEL_STD * normal)).to(uniform)


def drop_condition(condition: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Replace whole vectors by the null condition (zeros) with probability ``share`` (arXiv:2207.12598, algorithm 1).

    Args:
        condition: (n, d).
        uniform: one uniform random number per image, (n,).
        share: the probability of dropping, in [0, 1].
    """
    return condition * (uniform >= share).to(condition.dtype).unsqueeze(1)


def mask_condition(condition: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Set single elements to 0 with probability ``share``; ``uniform`` has one random number per element, (n, d).

    Introductory courses do this. It is right for a one-hot class, whose single 1 is dropped as a whole. A dense vector
    is almost never dropped completely, so the network hardly learns the null condition that guidance guides away from;
    ``docs/ablations.md`` measures the difference.
    """
    return condition * (uniform >= share).to(condition.dtype)


def noise_condition(condition: Tensor, eps: Tensor, cosine: float) -> Tensor:
    """Add noise to unit vectors so that their cosine with the original is about ``cosine``, and renormalise.

    A denoiser trained only on exact image vectors fails on a text vector, which lies near them; noise
    of std ``sqrt((1 / c**2 - 1) / d)`` per element widens each image's neighbourhood to the wanted
    cosine ``c`` (CapDec, arXiv:2211.00575; C3, arXiv:2401.08567).

    Args:
        condition: unit vectors, (n, d).
        eps: standard normal noise, (n, d).
        cosine: the expected cosine of noisy and true vector, in (0, 1]; 1 leaves the vectors as they are.
    """
    if cosine == 1:
        return condition
    std = math.sqrt((1 / cosine**2 - 1) / condition.shape[1])
    return torch.nn.functional.normalize(condition + std * eps, dim=1)


def _coefficients(kind: str, alpha: Coefficient, sigma: Coefficient) -> tuple[Coefficient, Coefficient]:
    """Return ``(a, b)`` of a prediction ``a * x0 + b * eps``; with ``xt``, it determines both ``x0`` and ``eps``."""
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
