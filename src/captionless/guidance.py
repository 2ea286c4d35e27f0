"""Classifier-free guidance: lean away from the unconditional prediction, towards the condition.

The guidance scale ``w`` here is that of ``(1 + w) * cond - w * uncond`` (Ho & Salimans, arXiv:2207.12598,
eq. 6): 0 is the plain conditional prediction and -1 the unconditional one. It is the "guidance scale" of
``diffusers`` minus 1. Useful values lie between 0.5 and 4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captionless.objective import Network, x0_from_v
from captionless.schedule import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""What a sampler calls: ``(xt, t) -> x0``, the predicted clean picture, with ``t`` a scalar tensor."""


def guide(cond: Tensor, uncond: Tensor, w: Tensor | float) -> Tensor:
    """Return ``(1 + w) * cond - w * uncond``; ``w`` is a number or one a picture, shaped (n, 1, 1, 1)."""
    return uncond + (1 + w) * (cond - uncond)


def guided_denoiser(network: Network, schedule: Schedule, condition: Tensor, w: Tensor | float) -> Denoise:
    """Turn a network that predicts ``v`` into the guided, clipped prediction of ``x0`` that samplers use.

    Both branches run as one batch of twice the size. ``x0`` is clipped to [-1, 1], the range of pictures,
    without which guidance drives colours out of range (static thresholding, arXiv:2205.11487, section 2.3).

    Args:
        network: the denoiser.
        schedule: the noise schedule it was trained with.
        condition: one condition vector a picture, (n, d).
        w: the guidance scale, one for all or one a picture, (n,).
    """
    w = torch.as_tensor(w, dtype=torch.float32, device=condition.device)
    scale = w.reshape(-1, 1, 1, 1)
    guided = bool((w != 0).any())
    both = torch.cat([condition, torch.zeros_like(condition)]) if guided else condition

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha_sigma(t)
        times = t.to(torch.float32).to(xt.device).expand(len(both))
        if guided:
            cond, uncond = network(torch.cat([xt, xt]), times, both).float().chunk(2)
            v = guide(cond, uncond, scale)
        else:
            v = network(xt, times, both).float()
        return x0_from_v(xt, v, float(alpha), float(sigma)).clamp(-1, 1)

    return denoise
