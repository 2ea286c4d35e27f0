"""Weights in 8 bits: a quarter of the file.

Each row of a matrix (each filter of a convolution) is stored as whole numbers from -127 to 127 and a scale of its own:
its largest weight becomes 127. What has one dimension, biases and the like, is small and stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127
SCALE = ".scale"
"""What the name of a tensor of scales ends with; before it stands that of the weights."""


def quantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with their matrices as int8, and beside each its scales, float32, one a row."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.to(torch.float16)
            continue
        scale = tensor.float().flatten(1).abs().amax(1) / LARGEST
        # A row of zeros has the scale 0.
        rows = tensor.float() / _by_row(scale, tensor).clamp(min=torch.finfo(torch.float32).tiny)
        stored[name] = rows.round().to(torch.int8)
        stored[name + SCALE] = scale
    return stored


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that were stored, in float32: the inverse of ``quantised``, to rounding.

    Weights that were stored otherwise are what they were.
    """
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith(SCALE)}
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        scale = scales.get(name + SCALE)
        weights[name] = tensor.float() if scale is None else tensor.float() * _by_row(scale, tensor)
    return weights


def _by_row(scale: Tensor, like: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (like.ndim - 1))
