"""Weights in 8 bits: a quarter of the file.

Each row of a matrix (each filter of a convolution) is stored as whole numbers from -127 to 127 and a scale of its own:
its largest weight becomes 127. What has one dimension, biases and the like, is small and stored in float16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captionless.errors import CaptionlessError

_SCALE = ".scale"
"""Suffix that turns the name of a tensor of weights into the name of its scales."""


def quantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Quantise tensors with two or more dimensions to int8; store the rest in float16.

    Each quantised tensor is accompanied by a tensor of float32 scales, one per row.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.to(torch.float16)
            continue
        # A row of zeros has no largest weight to divide by.
        scale = tensor.float().flatten(1).abs().amax(1).clamp(min=1e-30) / 127
        stored[name] = (tensor.float() / _by_row(scale, tensor)).round().to(torch.int8)
        stored[name + _SCALE] = scale
    return stored


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that were stored, in float32: the inverse of ``quantised``, to rounding.

    Weights that were not quantised keep their values.

    Raises:
        CaptionlessError: whole numbers without a scale.
    """
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith(_SCALE)}
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        scale = scales.get(name + _SCALE)
        if scale is None and not tensor.is_floating_point():
            raise CaptionlessError(f"the weights {name} are whole numbers without a scale. Restore the file.")
        weights[name] = tensor.float() if scale is None else tensor.float() * _by_row(scale, tensor)
    return weights


def _by_row(scale: Tensor, like: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (like.ndim - 1))
