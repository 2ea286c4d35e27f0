"""Quantise weights to 8 bits, which reduces the file size to a quarter.

Each row of a matrix (each filter of a convolution) is stored as integers from -127 to 127 with its own scale, so that
its largest absolute weight becomes 127. One-dimensional tensors, such as biases, are small and stored in float16.
"""

from __future__ import annotations

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
        # The clamp avoids a division by zero for rows of zeros.
        scale = tensor.float().flatten(1).abs().amax(1).clamp(min=1e-30) / 127
        stored[name] = (tensor.float() / _by_row(scale, tensor)).round().to(torch.int8)
        stored[name + _SCALE] = scale
    return stored


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Dequantise stored weights to float32: the inverse of ``quantised``, up to rounding.

    Weights that were not quantised keep their values.

    Raises:
        CaptionlessError: a tensor of integers has no scale.
    """
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith(_SCALE)}
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        scale = scales.get(name + _SCALE)
        if scale is None and not tensor.is_floating_point():
            raise CaptionlessError(f"the quantised weights {name} have no scale. Restore the file from a copy.")
        weights[name] = tensor.float() if scale is None else tensor.float() * _by_row(scale, tensor)
    return weights


def _by_row(scale: Tensor, like: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (like.ndim - 1))
