"""The Muon optimizer: orthogonal updates for weight matrices, AdamW for the other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from captionless.models.orthogonal import orthogonalise

SMALLEST = 16
"""Matrices with fewer rows or columns, biases and factors are updated by AdamW."""
RATE = 6.0
"""Learning rate of the matrices, relative to that of the other weights."""
UPDATE = 0.2
"""Root mean square of a matrix's update at a learning rate of 1, about that of AdamW (arXiv:2502.16982, eq. 4)."""
MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """Optimizer that replaces the momentum of each weight matrix by the nearest orthogonal matrix.

    All directions of a matrix are then learned at the same speed, the rare ones too (K. Jordan et al., "Muon: an
    optimizer for hidden layers in neural networks", 2024). A convolution counts as a matrix of its output channels by
    all that an output is computed from (as in arXiv:2510.19376). A step takes more time than one of AdamW, and a
    training far fewer steps.

    Args:
        weights: the weights to train.
        settings: those of ``torch.optim.AdamW``, which updates the weights that are no matrices; ``lr`` is a tensor.
    """

    def __init__(self, weights: Iterable[Parameter], **settings: Any) -> None:
        weights = list(weights)
        others = [{"params": [weight for weight in weights if not _is_matrix(weight)]}]
        super().__init__(others, **settings)
        self.add_param_group({"params": [weight for weight in weights if _is_matrix(weight)]})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the weights by their gradients; ``closure`` is not used."""
        matrices = self.param_groups.pop()
        try:
            super().step()
        finally:
            self.param_groups.append(matrices)
        weights = [weight for weight in matrices["params"] if weight.grad is not None]
        if not weights:
            return
        for weight in weights:
            if "momentum" not in self.state[weight]:
                # AdamW expects a number of steps wherever it loads a state.
                self.state[weight] |= {"momentum": torch.zeros_like(weight), "step": torch.zeros(())}
        gradients = [weight.grad for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = _orthogonal_updates(list(torch._foreach_lerp(gradients, momenta, MOMENTUM)))
        rate = RATE * matrices["lr"]
        torch._foreach_mul_(updates, rate)
        torch._foreach_mul_(weights, 1 - rate * matrices["weight_decay"])
        torch._foreach_sub_(weights, updates)


def _orthogonal_updates(gradients: list[Tensor]) -> list[Tensor]:
    """Return the updates for smoothed gradients; matrices of one shape are orthogonalised together."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for index, gradient in enumerate(gradients):
        shapes.setdefault((len(gradient), gradient[0].numel()), []).append(index)
    updates = list(gradients)
    for (rows, columns), indices in shapes.items():
        # Channels last, so that a weight in the memory format of the networks is viewed, not copied.
        stacked = torch.stack([gradients[i].movedim(1, -1).reshape(rows, columns) for i in indices])
        scaled = UPDATE * max(rows, columns) ** 0.5 * orthogonalise(stacked)
        for i, update in zip(indices, scaled, strict=True):
            channels_last = gradients[i].movedim(1, -1).shape
            updates[i] = update.reshape(channels_last).movedim(-1, 1)
    return updates


def _is_matrix(weight: Tensor) -> bool:
    return weight.dim() >= 2 and min(len(weight), weight[0].numel()) >= SMALLEST
