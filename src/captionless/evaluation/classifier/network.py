"""What the pixel classifier is made of: its network, its optimiser, and the random changes of what it learns from."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 64, 128)
"""Channels of the stages; each stage sees half the side of the one before."""

LARGE = 16
"""Pictures of more pixels a side are halved before the first stage."""

ROTATION = math.radians(15)
ZOOM = (0.75, 1.15)
"""Share of a picture's side that is shown."""
SHIFT = 0.1
"""In halves of the side."""
COLOUR = 0.15
"""In standard deviations."""

_MOMENTUM = 0.9
# Coefficients of the quintic iteration that brings singular values from (0, 1] to about 1 in few rounds.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 4
_PATCHES = 200_000
_FLAT = 1e-2


class PixelNetwork(nn.Module):
    """A residual network of three stages on pictures of 8 to 64 pixels a side.

    Its first layer is fixed: it shows decorrelated patches to what follows, each also negated (whitening, Coates & Ng
    2012, in the form of Jordan's airbench, arXiv:2404.00498).

    Args:
        pictures: some of the training pictures, normalised, (n, channels, side, side).
        classes: how many there are.
        generator: of the initial weights.
    """

    def __init__(self, pictures: Tensor, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        patches = _convolution(pictures.shape[1], WIDTHS[0], 3)
        layers = [patches, nn.BatchNorm2d(WIDTHS[0]), nn.SiLU()]
        layers += [nn.MaxPool2d(2)] if pictures.shape[-1] > LARGE else []
        for inputs, outputs in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False):
            layers += [nn.MaxPool2d(2)] if inputs != outputs else []
            layers += [_Residual(inputs, outputs)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * WIDTHS[-1], classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for weight in (module.weight for module in self.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        filters = whitening(pictures)[: WIDTHS[0] // 2]
        with torch.no_grad():
            patches.weight[: 2 * len(filters)] = torch.cat([filters, -filters])
        patches.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of normalised pictures (n, channels, side, side)."""
        h = self.body(x)
        logits: Tensor = self.head(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1))
        return logits


class _Residual(nn.Module):
    """Two convolutions beside a shortcut (arXiv:1512.03385); at first the shortcut alone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = _convolution(outputs, outputs, 3)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else _convolution(inputs, outputs, 1)
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second_norm(self.second(F.silu(self.first_norm(self.first(x)))))
        return F.silu(self.shortcut(x) + h)


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


def whitening(pictures: Tensor) -> Tensor:
    """Return filters whose answers on the pictures are uncorrelated and of about unit variance, the strongest first.

    Args:
        pictures: (n, channels, side, side).

    Returns:
        (9 channels, channels, 3, 3): the eigenvectors of the covariance of 3 x 3 patches over the root of their
        eigenvalues, to which 0.01 is added so that directions without contrast are not blown up.
    """
    channels = pictures.shape[1]
    patches = F.unfold(pictures, 3).transpose(1, 2).reshape(-1, 9 * channels)
    patches = patches[:: math.ceil(len(patches) / _PATCHES)].double()
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters: Tensor = (vectors / torch.sqrt(values.clamp(min=0) + _FLAT)).T.flip(0)
    return filters.reshape(-1, channels, 3, 3).float()


class Muon(torch.optim.Optimizer):
    """Steepest descent in the spectral norm, with momentum (Jordan et al., "Muon", kellerjordan.github.io, 2024).

    Each weight's step is its momentum with all singular values brought to about 1. Weights are kept at the norm
    ``sqrt(outputs)``: the batch normalisation behind each convolution makes their length meaningless.

    Args:
        weights: of convolutions, (outputs, inputs, height, width).
        lr: length of a step, the spectral norm of what is added.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float) -> None:
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each weight once."""
        for group in self.param_groups:
            for weight in group["params"]:
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                momentum = self.state[weight]["momentum"]
                momentum.mul_(_MOMENTUM).add_(weight.grad)
                ahead = weight.grad + _MOMENTUM * momentum  # Nesterov's
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(orthogonal(ahead.flatten(1)).reshape(weight.shape), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Return ``matrix`` (m, n) with its singular values brought near 1, by Muon's Newton-Schulz iteration.

    They end between about 0.6 and 1.2, except those that were below a hundredth of the matrix's norm.
    """
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = x if wide is matrix else x.T
    return found


def changed(x: Tensor, side: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return pictures (n, channels, side, side) a little turned, zoomed, moved, mirrored, brighter and coloured."""
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator)

    turn, zoom = uniform(-ROTATION, ROTATION, n), uniform(math.log(ZOOM[0]), math.log(ZOOM[1]), n).exp()
    mirror = torch.where(uniform(0, 1, n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    cos, sin, shift = turn.cos() * zoom, turn.sin() * zoom, uniform(-SHIFT, SHIFT, 2, n)
    rows = torch.stack([cos * mirror, -sin, shift[0]], 1), torch.stack([sin * mirror, cos, shift[1]], 1)
    grid = F.affine_grid(torch.stack(rows, 1), [n, x.shape[1], side, side], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return x * uniform(1 - COLOUR, 1 + COLOUR, n, 1, 1, 1) + uniform(-COLOUR, COLOUR, n, x.shape[1], 1, 1)
