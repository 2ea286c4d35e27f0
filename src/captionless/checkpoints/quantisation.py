"""Quantise weights to 8 bits, which reduces the file size to a quarter.

Each row of a matrix (each filter of a convolution) is stored as integers from -127 to 127 with its own scale, so that
its largest absolute weight becomes 127. One-dimensional tensors, such as biases, are small and stored in float16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captionless.errors import CaptionlessError

_SCALE = ".scale"
"""Suffix that is appended to the name of a weight tensor to get the name of its scales."""


def quantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Quantise tensors with two or more dimensions to int8; store the rest in float16.

    Each quantised tensor is accompanied by a tensor of float32 scales, one per row.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.to(torch.float16)
            continue
        stored[name], scale = to_int8(tensor)
        stored[name + _SCALE] = scale.flatten()
    return stored


def to_int8(tensor: Tensor, rows: Sequence[int] = (0,)) -> tuple[Tensor, Tensor]:
    """Return a tensor as integers from -127 to 127, int8, and their scales, float32, by which to multiply them.

    Args:
        tensor: weights of two or more dimensions.
        rows: the dimensions that have a scale for each index; the scales have length 1 in the others.
    """
    others = [i for i in range(tensor.ndim) if i not in rows]
    # The clamp avoids a division by zero for rows of zeros.
    scale = tensor.float().abs().amax(others, keepdim=True).clamp(min=1e-30) / 127
    return (tensor.float() / scale).round().to(torch.int8), scale


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Dequantise stored weights to float32: the inverse of ``quantised``, up to rounding.

    Weights that were not quantised keep their values. Those of convolutions are returned in channels-last format, which
    most devices use: permuting them is cheapest while they have 8 bits.

    Raises:
        CaptionlessError: a tensor of integers has no scale.
    """
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith(_SCALE)}
    stored = {name: tensor for name, tensor in tensors.items() if name not in scales}
    # One block of memory: the system hands out many small ones slowly.
    sizes = [tensor.numel() for tensor in stored.values()]
    parts = torch.split(torch.empty(sum(sizes)), sizes)
    weights: dict[str, Tensor] = {}
    for (name, tensor), part in zip(stored.items(), parts, strict=True):
        scale = scales.get(name + _SCALE)
        if scale is None and not tensor.is_floating_point():
            raise CaptionlessError(f"the quantised weights {name} have no scale. Restore the file from a copy.")
        if scale is None:
            weights[name] = part.view(tensor.shape).copy_(tensor)
            continue
        if tensor.ndim == 4:  # numpy, because PyTorch takes ten times as long to permute bytes
            tensor = torch.from_numpy(np.ascontiguousarray(tensor.permute(0, 2, 3, 1).numpy()))
        torch.mul(tensor.flatten(1), scale[:, None], out=part.view(len(tensor), -1))
        value = part.view(tensor.shape)
        weights[name] = value.permute(0, 3, 1, 2) if tensor.ndim == 4 else value
    return weights
