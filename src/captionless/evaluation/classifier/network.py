"""The network of the reference classifier, and the augmentation of its training images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 64, 128)
"""Number of channels of each stage; each stage has half the resolution of the previous stage."""


class PixelNetwork(nn.Module):
    """A residual network of three stages for images of 8 to 64 pixels per side.

    The first layer is frozen and consists of whitening filters of 3 x 3 patches and their negatives (Coates & Ng 2012,
    as in Jordan's airbench, arXiv:2404.00498). Images with more than 16 pixels per side are pooled before the first
    stage.

    Args:
        images: a sample of the normalised training images, (n, channels, side, side).
        classes: number of classes.
        generator: random generator for the initial weights.
    """

    def __init__(self, images: Tensor, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        patches = _convolution(images.shape[1], WIDTHS[0], 3)
        layers = [patches, nn.BatchNorm2d(WIDTHS[0]), nn.SiLU()]
        layers += [nn.MaxPool2d(2)] if images.shape[-1] > 16 else []
        for inputs, outputs in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False):
            layers += [nn.MaxPool2d(2)] if inputs != outputs else []
            layers += [_Residual(inputs, outputs)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * WIDTHS[-1], classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for weight in (module.weight for module in self.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        filters = whitening(images)[: WIDTHS[0] // 2]
        with torch.no_grad():
            patches.weight[: 2 * len(filters)] = torch.cat([filters, -filters])
        patches.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of normalised images (n, channels, side, side)."""
        h = self.body(x)
        logits: Tensor = self.head(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1))
        return logits


class _Residual(nn.Module):
    """Two convolutions with a shortcut (arXiv:1512.03385); at initialisation only the shortcut contributes."""

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


def whitening(images: Tensor, max_patches: int = 200_000, offset: float = 1e-2) -> Tensor:
    """Return filters whose responses on the images are uncorrelated and have about unit variance.

    Args:
        images: images, (n, channels, side, side).
        max_patches: approximate maximum number of 3 x 3 patches used to estimate the covariance.
        offset: added to the eigenvalues, so that directions without contrast are not amplified.

    Returns:
        The filters, (9 * channels, channels, 3, 3): eigenvectors of the patch covariance divided by the square root of
        their eigenvalues, in descending order of eigenvalues.
    """
    channels = images.shape[1]
    patches = F.unfold(images, 3).transpose(1, 2).reshape(-1, 9 * channels)
    patches = patches[:: math.ceil(len(patches) / max_patches)].double()
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters: Tensor = (vectors / torch.sqrt(values.clamp(min=0) + offset)).T.flip(0)
    return filters.reshape(-1, channels, 3, 3).float()


def augment(
    x: Tensor,
    side: int,
    flip: bool,
    generator: torch.Generator,
    *,
    rotation: float = math.radians(15),
    zoom: tuple[float, float] = (0.75, 1.15),
    shift: float = 0.1,
    colour: float = 0.15,
) -> Tensor:
    """Rotate, zoom, shift, flip and recolour images at random.

    Args:
        x: normalised images, (n, channels, side, side).
        side: side length of the augmented images, in pixels.
        flip: flip each image horizontally with probability 1/2.
        generator: random generator.
        rotation: maximum angle, in radians.
        zoom: minimum and maximum visible fraction of the side.
        shift: maximum shift, as a fraction of half the side.
        colour: maximum relative change of contrast, and maximum change of each channel's mean in standard deviations.
    """
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator)

    angle, scale = uniform(-rotation, rotation, n), uniform(math.log(zoom[0]), math.log(zoom[1]), n).exp()
    mirror = torch.where(uniform(0, 1, n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    cos, sin, offset = angle.cos() * scale, angle.sin() * scale, uniform(-shift, shift, 2, n)
    rows = torch.stack([cos * mirror, -sin, offset[0]], 1), torch.stack([sin * mirror, cos, offset[1]], 1)
    grid = F.affine_grid(torch.stack(rows, 1), [n, x.shape[1], side, side], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return x * uniform(1 - colour, 1 + colour, n, 1, 1, 1) + uniform(-colour, colour, n, x.shape[1], 1, 1)
