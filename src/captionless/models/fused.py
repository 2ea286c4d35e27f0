"""Normalise and activate feature maps in one CUDA kernel each way, and add a convolution to its residual connection.

PyTorch's group normalisation copies channels-last feature maps to another format and back, and then modulation and
activation pass over them again. These Triton kernels read a feature map twice and write it once. They compute in
float32 whatever the format of the feature maps, and expect channels-last ones on a CUDA device.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 256
"""Positions of a feature map that a program reads at a time."""


@cache
def _kernels() -> Any:
    """Return the module of the kernels, or None without Triton, which comes with PyTorch for CUDA on Linux."""
    if find_spec("triton") is None:
        return None
    from captionless.models import fused_kernels

    return fused_kernels


def _failures() -> tuple[type[Exception], ...]:
    """Return what Triton raises where it cannot compile or run: for want of a compiler, of CUDA's library, of a GPU."""
    from triton.errors import TritonError

    return TritonError, RuntimeError, OSError, ImportError, AssertionError, subprocess.SubprocessError


def can_fuse(x: Tensor) -> bool:
    """Return whether the kernels apply to a feature map, (n, channels, h, w)."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"  # on the CPU, for tests
    return (x.is_cuda or interpreted) and x.dim() == 4 and works_on(x.device)


@cache
def works_on(device: torch.device) -> bool:
    """Return whether the kernels run on a device and agree there with PyTorch's layers.

    They are compiled at their first call, for which Triton needs a C compiler. Where that fails, networks run without
    them, more slowly.
    """
    if _kernels() is None:
        return False
    results = []
    # The first call may come from sampling, in inference mode, which allows no gradients.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        norm = torch.nn.GroupNorm(2, 32, device=device)
        values = torch.linspace(-3, 5, 2 * 32 * 9, device=device).sin().reshape(2, 32, 3, 3)
        try:
            for with_kernels in (True, False):
                x = values.clone().requires_grad_()
                y = norm_silu(x, norm) if with_kernels else torch.nn.functional.silu(norm(x))
                results += [y, *torch.autograd.grad((y * values).sum(), [x, norm.weight])]
        except _failures():
            return False
    return all(torch.allclose(*pair, atol=1e-3, rtol=1e-3) for pair in zip(results[:3], results[3:], strict=True))


def norm_silu(
    x: Tensor,
    norm: torch.nn.GroupNorm,
    *,
    bias: Tensor | None = None,
    modulation: Tensor | None = None,
    silu: bool = True,
) -> Tensor:
    """Return ``silu(shift + (1 + scale) * norm(x + bias))``, of the shape and dtype of ``x``.

    Args:
        x: feature map, (n, channels, h, w), channels last in memory.
        norm: the group normalisation.
        bias: one value per channel, (channels,); by default none is added.
        modulation: scale and shift of each channel, side by side, (n, 2 * channels); by default 0 and 0.
        silu: whether to apply SiLU.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    arguments = (x, bias, norm.weight, norm.bias, modulation, norm, silu)
    out: Tensor = _NormSilu.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


def add_convolution(x: Tensor, convolution: torch.nn.Conv2d, h: Tensor) -> Tensor:
    """Return ``x + convolution(h)`` for a convolution with a bias; ``x`` is channels last in memory."""
    y = torch.nn.functional.conv2d(h, convolution.weight, None, padding=convolution.padding)
    out: Tensor = _AddBiased.apply(x, y.to(x.dtype), convolution.bias)  # type: ignore[no-untyped-call]
    return out


class _NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        weight: Tensor,
        offset: Tensor,
        modulation: Tensor | None,
        norm: torch.nn.GroupNorm,
        silu: bool,
    ) -> Tensor:
        n, channels, height, width = x.shape
        groups = norm.num_groups
        y, statistics = torch.empty_like(x), x.new_empty((n, groups, 2), dtype=torch.float32)
        modulation = None if modulation is None else modulation.contiguous()
        _kernels().norm_forward[(n * groups,)](
            x, _or(bias, x), weight, offset, _or(modulation, x), y, statistics,
            height * width, channels, groups, norm.eps,
            GROUP=channels // groups, ROWS=ROWS, BIASED=bias is not None, MODULATED=modulation is not None, SILU=silu,
        )  # fmt: skip
        ctx.save_for_backward(x, bias, weight, offset, modulation, statistics)
        ctx.groups, ctx.silu = groups, silu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bias, weight, offset, modulation, statistics = ctx.saved_tensors
        n, channels, height, width = x.shape
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx, dmodulation = torch.empty_like(x), None if modulation is None else torch.empty_like(modulation)
        parts = x.new_empty((n, 3, channels), dtype=torch.float32)  # of the gradients of weight, offset and bias
        _kernels().norm_backward[(n * ctx.groups,)](
            x, _or(bias, x), weight, offset, _or(modulation, x), statistics, grad, dx, _or(dmodulation, x), parts,
            height * width, channels, ctx.groups,
            GROUP=channels // ctx.groups, ROWS=ROWS, BIASED=bias is not None, MODULATED=modulation is not None,
            SILU=ctx.silu,
        )  # fmt: skip
        dweight, doffset, dbias = parts.sum(0).to(weight.dtype).unbind(0)
        return dx, None if bias is None else dbias, dweight, doffset, dmodulation, None, None


class _AddBiased(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        x, y = (one.contiguous(memory_format=torch.channels_last) for one in (x, y))
        out = torch.empty_like(x)
        block = 2048
        _kernels().add_biased[(-(-x.numel() // block),)](x, y, bias, out, x.numel(), x.shape[1], BLOCK=block)
        ctx.dtype = bias.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # As a matrix product, the sum over all positions runs at the speed of memory.
        rows = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
        return grad, grad, (rows.new_ones(1, len(rows)) @ rows)[0].to(ctx.dtype)


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """Return a tensor to pass where the kernel reads none."""
    return other if tensor is None else tensor
