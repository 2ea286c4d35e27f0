"""What the denoiser learns: the prediction target, its loss, and what is done to the condition.

The network predicts ``v = alpha * eps - sigma * x0`` (Salimans & Ho, arXiv:2202.00512, section 4 and app. D),
which stays well scaled from pure noise to clean picture. Any two of ``x0``, ``eps``, ``v`` follow
from the third and ``xt``; the conversions below are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from captionless.errors import CaptionlessError
from captionless.schedule import Schedule, add_noise

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A denoiser: ``(xt, t, condition) -> v``, with shapes (n, c, s, s), (n,), (n, d) -> (n, c, s, s)."""


def v_target(x0: Tensor, eps: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Return ``v = alpha * eps - sigma * x0`` (arXiv:2202.00512, section 4)."""
    return alpha * eps - sigma * x0


def x0_from_v(xt: Tensor, v: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Return ``x0 = alpha * xt - sigma * v``; holds because ``alpha**2 + sigma**2 = 1``."""
    return alpha * xt - sigma * v


def eps_from_v(xt: Tensor, v: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Return ``eps = sigma * xt + alpha * v``."""
    return sigma * xt + alpha * v


def denoising_loss(
    network: Network, schedule: Schedule, x0: Tensor, condition: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    """Return the mean squared error of the predicted ``v``, a scalar in float32.

    With ``t`` uniform this is the simple loss of DDPM (arXiv:2006.11239, eq. 14) weighted by
    ``SNR + 1`` (arXiv:2202.00512, section 4).

    Args:
        network: the denoiser.
        schedule: the noise schedule.
        x0: pictures, (n, channels, size, size), in [-1, 1].
        condition: (n, d), already dropped out where the unconditional branch is to learn.
        t: times, (n,), in [0, 1].
        eps: standard normal noise of the shape of ``x0``.
    """
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    prediction = network(add_noise(schedule, x0, eps, t), t, condition)
    return (prediction.float() - v_target(x0, eps, alpha, sigma)).square().mean()


def stratified_times(uniform: Tensor) -> Tensor:
    """Spread n uniform random numbers so that each n-th of [0, 1] holds exactly one, in ascending order.

    A batch then covers all noise levels evenly, which lowers the variance of the loss
    (low-discrepancy sampling of VDM, arXiv:2107.00630, app. I.1). Within its n-th each time stays uniform, so
    over many batches every time in [0, 1] is equally likely. The order of the batch's pictures must be random.
    """
    n = len(uniform)
    return (torch.arange(n, device=uniform.device) + uniform) / n


def drop_condition(condition: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Replace the whole vector by the null condition (zeros) where ``uniform < share``.

    Classifier-free guidance, arXiv:2207.12598, algorithm 1. A Bernoulli mask over *single elements*
    would almost never show the network a null vector, and guidance would have no unconditional branch.

    Args:
        condition: (n, d).
        uniform: one uniform random number a picture, (n,).
        share: the probability of dropping, in [0, 1].
    """
    return condition * (uniform >= share).to(condition.dtype).unsqueeze(1)


def noise_condition(condition: Tensor, eps: Tensor, cosine: float) -> Tensor:
    """Blur unit vectors so that their cosine with the original is about ``cosine``, and renormalise.

    A denoiser that saw only exact image vectors is lost on a text vector, which lies beside them; noise
    of std ``sqrt((1 / c**2 - 1) / d)`` an element widens each picture's neighbourhood to the wanted
    cosine ``c`` (CapDec, arXiv:2211.00575; C3, arXiv:2401.08567).

    Args:
        condition: unit vectors, (n, d).
        eps: standard normal noise, (n, d).
        cosine: the expected cosine of noisy and true vector, in (0, 1]; 1 leaves the vectors as they are.
    """
    if not 0 < cosine <= 1:
        raise CaptionlessError(f"the condition's cosine must lie in (0, 1], not {cosine}. Try 0.9, or 1 for no noise.")
    if cosine == 1:
        return condition
    std = math.sqrt((1 / cosine**2 - 1) / condition.shape[1])
    return torch.nn.functional.normalize(condition + std * eps, dim=1)
