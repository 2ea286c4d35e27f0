"""Fidelity and diversity of generated images: distances to real images, relative to distances between real images.

Generated image ``i`` was sampled from the embedding of real image ``i``. Comparing the two with each other would
overestimate the model's quality, so images are split into random halves A and B:

    model     = figure(real[A], generated[B])
    reference = figure(real[A], real[B])

All sets have the same size, so both figures have the same bias. A model that copies its training images would also
reach the reference; `captionless.evaluation.metrics.memorisation` detects such copies.

**The range** contains the figure in 95% of the splits. Halves are drawn without replacement, so the mean over half of n
images has the variance ``(s^2 / (n/2)) * (1 - (n/2)/n) = s^2 / n``, which equals the variance of the mean over all n
images. The spread over random halves is therefore the standard error of the full sample, for a mean and for figures
that behave like a mean (the delete-d jackknife with d = n/2; Shao and Wu, Annals of Statistics 17, 1989). The range is
slightly too wide, because generated images resemble the real images they came from, which are in the other half. In
the reference, both halves come from the same set, so its range shows how much two halves differ by chance. A model
within this range cannot be distinguished from real images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics.estimate import Estimate, TooFewError, percentiles
from captionless.evaluation.metrics.manifold import distances, manifold_overlap
from captionless.evaluation.metrics.mmd import SCALE, mmd2, polynomial_kernel, rbf_kernel

MINIMUM = 20
"""Minimum number of images for KID and CMMD. Both are unbiased for any number of images, but with fewer than 10 per
half their ranges are too wide to be useful."""

MINIMUM_MANIFOLD = 50
"""Minimum number of images for precision, recall, density and coverage. They are defined for at least 2 (k + 1) images,
but with so few images every ball contains its whole half. With 50 images a ball contains a fifth of the half, and a
share of 25 images is known to within 20 percentage points."""

MANIFOLD = ("precision", "recall", "density", "coverage")

Splits = Sequence[tuple[Tensor, Tensor]]
Pairwise = Callable[[Tensor, Tensor], Tensor]
Measure = Callable[[Tensor, Tensor, Tensor], tuple[float, ...]]


@dataclass(frozen=True)
class Comparison:
    """One figure of a model, and the same figure for real images.

    Args:
        name: ``kid``, ``cmmd``, ``precision``, ``recall``, ``density`` or ``coverage``.
        model: the figure for generated images compared with real images.
        real: the figure for real images compared with other real images.
    """

    name: str
    model: Estimate
    real: Estimate


def compare_sets(real: Tensor, fake: Tensor, *, seed: int = 0) -> list[Comparison]:
    """Return all figures of fidelity and diversity.

    Args:
        real: features of real images, (n, d).
        fake: features of generated images, (n, d); ``fake[i]`` was generated from real image ``i``.
        seed: seed of the random halves.

    Returns:
        ``kid`` and ``cmmd`` (both times 1000) and, for at least `MINIMUM_MANIFOLD` images, ``precision``, ``recall``,
        ``density`` and ``coverage``.

    Raises:
        TooFewError: fewer than `MINIMUM` images.
    """
    splits = _paired_halves(real, fake, seed)
    unit = F.normalize(real.double(), dim=1), F.normalize(fake.double(), dim=1)
    found = _compare(("kid",), _scaled_mmd2, polynomial_kernel, real, fake, splits)
    found += _compare(("cmmd",), _scaled_mmd2, rbf_kernel, *unit, splits)
    if len(real) >= MINIMUM_MANIFOLD:
        found += _compare(MANIFOLD, manifold_overlap, distances, real, fake, splits)
    return found


def paired_kid(real: Tensor, fake: Tensor, *, seed: int = 0) -> Estimate:
    """Return KID (times 1000) between real images and images made from them, as in `compare_sets`.

    Args:
        real: features, (n, d).
        fake: features, (n, d); ``fake[i]`` was made from real image ``i``.
        seed: seed of the random halves; the same seed gives the same halves as in `compare_sets`.

    Raises:
        TooFewError: fewer than `MINIMUM` images.
    """
    splits = _paired_halves(real, fake, seed)
    kernels = polynomial_kernel(real, real), polynomial_kernel(fake, fake), polynomial_kernel(real, fake)
    (draws,) = _over_splits(splits, _scaled_mmd2, *kernels)
    return percentiles(draws, len(real))


def random_halves(n: int, seed: int, splits: int = 100) -> list[tuple[Tensor, Tensor]]:
    """Split ``n`` images into two random halves, ``splits`` times; if ``n`` is odd, each split leaves one image out.

    With fewer than 100 splits, the outer 2.5% would be based on only one or two splits.

    Returns:
        Pairs of index tensors, each (n // 2,) and in ascending order.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=generator) for _ in range(splits)]
    return [(order[: n // 2].sort().values, order[n // 2 : n // 2 * 2].sort().values) for order in orders]


def _compare(
    names: tuple[str, ...], measure: Measure, pairwise: Pairwise, real: Tensor, fake: Tensor, splits: Splits
) -> list[Comparison]:
    """Compare real with generated images and real with real images, computing pairwise values only once."""
    rr, ff, rf = pairwise(real, real), pairwise(fake, fake), pairwise(real, fake)
    model, reference = _over_splits(splits, measure, rr, ff, rf), _over_splits(splits, measure, rr, rr, rr)
    n = len(real)
    return [
        Comparison(name, percentiles(one, n), percentiles(other, n))
        for name, one, other in zip(names, model, reference, strict=True)
    ]


def _over_splits(splits: Splits, measure: Measure, xx: Tensor, yy: Tensor, xy: Tensor) -> list[tuple[float, ...]]:
    """Compare half A of x with half B of y in every split; return the draws of each figure."""
    draws = [measure(xx[a][:, a], yy[b][:, b], xy[a][:, b]) for a, b in splits]
    return list(zip(*draws, strict=True))


def _paired_halves(real: Tensor, fake: Tensor, seed: int) -> Splits:
    if real.shape != fake.shape:
        raise ValueError(f"generated image i belongs to real image i, but there are {real.shape} and {fake.shape}")
    if len(real) < MINIMUM:
        raise TooFewError(f"fidelity needs at least {MINIMUM} images, but there are {len(real)}.")
    return random_halves(len(real), seed)


def _scaled_mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> tuple[float, ...]:
    return (SCALE * mmd2(kxx, kyy, kxy),)
