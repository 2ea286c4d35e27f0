"""Precision, recall, density and coverage of generated images, from nearest neighbours in a feature space.

The manifold of a set is the union of balls around its images. The radius of each ball is the distance of the image to
its k-th nearest neighbour in the set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import TooFewError

K = 5
"""Number of neighbours within a ball, as in arXiv:2002.09797."""


class Manifold(NamedTuple):
    """The overlap of two sets; for sets from the same distribution, precision equals recall and density averages 1.

    Attributes:
        precision: share of generated images inside the ball of a real image, 0 to 1 (arXiv:1904.06991, eq. 1 and 2).
        recall: share of real images inside the ball of a generated image, 0 to 1 (same source).
        density: mean number of real balls that contain a generated image, over k; may exceed 1 (arXiv:2002.09797).
        coverage: share of real images whose ball contains a generated image, 0 to 1 (arXiv:2002.09797).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, k: int = K) -> Manifold:
    """Return precision, recall, density and coverage of generated images.

    Args:
        real: features of real images, (n, d).
        fake: features of generated images, (m, d).
        k: number of neighbours within a ball.

    Raises:
        TooFewError: a set has fewer than k + 1 images.
    """
    return manifold_overlap(distances(real, real), distances(fake, fake), distances(real, fake), k)


def manifold_overlap(rr: Tensor, ff: Tensor, rf: Tensor, k: int = K) -> Manifold:
    """Compute `precision_recall` from distances: real to real, generated to generated, and real to generated images."""
    real_radii, fake_radii = _radii(rr, k), _radii(ff, k)
    inside = rf < real_radii.unsqueeze(1)
    return Manifold(
        precision=_mean(inside.any(0)),
        recall=_mean((rf < fake_radii).any(1)),
        density=_mean(inside.sum(0)) / k,
        coverage=_mean(rf.amin(1) < real_radii),
    )


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return Euclidean distances (n, m) between vectors (n, d) and (m, d) in float64; exactly 0 for equal vectors."""
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _radii(within: Tensor, k: int) -> Tensor:
    """Return the distance of each image to its k-th nearest neighbour, (n,)."""
    if len(within) <= k:
        raise TooFewError(f"{k} nearest neighbours need at least {k + 1} images, but there are {len(within)}.")
    # The nearest neighbour is the image itself, at distance 0.
    return within.topk(k + 1, dim=1, largest=False).values[:, -1]


def _mean(x: Tensor) -> float:
    return float(x.double().mean())
