"""Every sampler, with the options that change what it does; and the two kinds of noise to hand it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from captionless.diffusion.samplers import (
    Sampler,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    heun,
    unipc,
)

DETERMINISTIC: dict[str, Sampler] = {
    "ddim": ddim,
    "euler": euler,
    "dpmpp-2m": dpmpp_2m,
    "heun": heun,
    "unipc": unipc,
}
ANCESTRAL: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddpm-upper": partial(ddpm, variance="upper"),
    "ddim-eta": partial(ddim, eta=0.7),
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpmpp-2m-sde-eta": partial(dpmpp_2m_sde, eta=0.5),
    "euler-ancestral": euler_ancestral,
    "euler-ancestral-eta": partial(euler_ancestral, eta=0.7),
}
CHURNING: dict[str, Sampler] = {
    "euler-churn": partial(euler, churn=10.0),
    "heun-churn": partial(heun, churn=10.0),
}
EVERY = DETERMINISTIC | ANCESTRAL | CHURNING


def never() -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")


def draws(shape: torch.Size, seed: int = 1, dtype: torch.dtype = torch.float32) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, dtype=dtype)
