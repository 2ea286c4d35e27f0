"""Compute in bf16 with a copy of the weights, which are themselves updated in float32."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from captionless.models.unet import Denoiser


class WorkingCopy:
    """The network that computes losses and gradients: a bf16 copy of the trained one, or in float32 that one itself.

    Weights are copied once a step, and gradients once a micro-batch, each as a whole. Autocast alone would convert
    every weight at each of its uses, in the forward and in the backward pass (mixed precision with float32 master
    weights, arXiv:1710.03740, section 3.1).

    Args:
        master: the trained network, float32.
        precision: ``float32`` or ``bf16``.

    Attributes:
        network: the network to compute with.
    """

    def __init__(self, master: Denoiser, precision: str) -> None:
        self.network = master if precision == "float32" else copy.deepcopy(master).to(torch.bfloat16)
        self._weights: list[Tensor] = list(self.network.parameters())
        self._masters: list[Tensor] = list(master.parameters())

    def load(self) -> None:
        """Copy the weights, and clear the gradients of the trained network."""
        for master in self._masters:
            master.grad = None
        if self._weights[0] is not self._masters[0]:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._masters)

    def add_gradients(self) -> None:
        """Add the gradients to those of the trained network, and clear them."""
        if self._weights[0] is self._masters[0]:
            return  # the backward pass has added them
        # A layer that a step did not use, such as that of crops without any, has no gradient.
        used = [pair for pair in zip(self._weights, self._masters, strict=True) if pair[0].grad is not None]
        gradients = [torch.empty_like(master) for _, master in used]
        torch._foreach_copy_(gradients, [torch.as_tensor(weight.grad) for weight, _ in used])
        if used[0][1].grad is not None:
            torch._foreach_add_(gradients, [torch.as_tensor(master.grad) for _, master in used])
        for (weight, master), gradient in zip(used, gradients, strict=True):
            weight.grad, master.grad = None, gradient
