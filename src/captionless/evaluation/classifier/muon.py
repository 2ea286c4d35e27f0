"""Muon, the optimiser of the reference classifier's convolutions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from captionless.models.orthogonal import orthogonalise

ITERATIONS = 4
"""Newton-Schulz iterations of an update; the singular values are then about 0.6 to 1.2."""


class Muon(torch.optim.Optimizer):
    """Steepest descent in the spectral norm, with Nesterov momentum (Jordan et al., "Muon", kellerjordan.github.io).

    The update of each weight is its momentum with all singular values set to about 1. Weights are kept at the norm
    ``sqrt(outputs)``, because the batch normalisation after each convolution makes their scale irrelevant.
    ``torch.optim.Muon`` supports only matrices and iterates in bfloat16, which takes 20 times as long on processors
    without bfloat16 instructions.

    Args:
        weights: convolution weights, (outputs, inputs, height, width).
        lr: learning rate, the spectral norm of an update.
        momentum: decay factor of the momentum.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update each weight once."""
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad + group["momentum"] * momentum
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                orthogonal = orthogonalise(update.flatten(1)[None], ITERATIONS).reshape(weight.shape)
                weight.add_(orthogonal, alpha=-group["lr"])
