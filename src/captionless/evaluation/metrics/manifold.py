"""Precision, recall, density and coverage of generated images, from nearest neighbours in a feature space.

The manifold of a set is the union of balls around its images, each reaching to the image's k-th nearest neighbour
within the set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import TooFewError

K = 5
"""Neighbours within a ball, as arXiv:2002.09797 chooses."""


class Manifold(NamedTuple):
    """The overlap of two sets; for two sets of one distribution, precision equals recall and density is 1 on average.

    Args:
        precision: share of generated images inside a ball of a real one, 0 to 1 (arXiv:1904.06991, eq. 1 and 2).
        recall: share of real images inside a ball of a generated one, 0 to 1 (the same).
        density: number of real balls that a generated image lies in, over k; may exceed 1 (arXiv:2002.09797).
        coverage: share of real images with a generated one in their ball, 0 to 1 (arXiv:2002.09797).
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
        k: neighbours within a ball.

    Raises:
        TooFewError: a set with fewer than k + 1 images.
    """
    return manifold_overlap(distances(real, real), distances(fake, fake), distances(real, fake), k)


def manifold_overlap(rr: Tensor, ff: Tensor, rf: Tensor, k: int = K) -> Manifold:
    """Return `precision_recall`, given the distances among real and generated images, and from one to the other."""
    real_radii, fake_radii = _radii(rr, k), _radii(ff, k)
    inside = rf < real_radii.unsqueeze(1)
    return Manifold(
        precision=_mean(inside.any(0)),
        recall=_mean((rf < fake_radii).any(1)),
        density=_mean(inside.sum(0)) / k,
        coverage=_mean(rf.amin(1) < real_radii),
    )


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the Euclidean distances of (n, d) to (m, d): (n, m) in float64, exactly 0 between equal vectors."""
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _radii(within: Tensor, k: int) -> Tensor:
    """Return the distance of each image to its k-th nearest neighbour, (n,)."""
    if len(within) <= k:
        raise TooFewError(f"{k} nearest neighbours need at least {k + 1} images, and there are {len(within)}.")
    # The nearest of all is the image itself, at distance 0.
    return within.topk(k + 1, dim=1, largest=False).values[:, -1]


def _mean(x: Tensor) -> float:
    return float(x.double().mean())
