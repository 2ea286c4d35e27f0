"""Whether pictures look right, and whether they show all there is: two sets compared by their nearest neighbours.

Around each picture lies a ball that reaches to its k-th nearest neighbour within its own set; the balls together are
the manifold of the set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import TooFewError

K = 5
"""Neighbours within a ball, as arXiv:2002.09797 chooses."""


@dataclass(frozen=True)
class Manifold:
    """How two sets overlap; of two sets of one distribution, precision equals recall and density is 1 on average.

    Args:
        precision: share of painted pictures within a ball of a real one, 0 to 1 (arXiv:1904.06991, eq. 1 and 2).
        recall: share of real pictures within a ball of a painted one, 0 to 1 (the same).
        density: balls of real pictures that a painted one lies in, over k; may exceed 1 (arXiv:2002.09797).
        coverage: share of real pictures with a painted one in their ball, 0 to 1 (arXiv:2002.09797).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, k: int = K) -> Manifold:
    """Compare real and painted pictures by their features.

    Args:
        real: features, (n, d).
        fake: features of painted pictures, (m, d).
        k: neighbours within a ball.

    Raises:
        TooFewError: a set with fewer than k + 1.
    """
    return precision_recall_from(distances(real, real), distances(fake, fake), distances(real, fake), k)


def precision_recall_from(rr: Tensor, ff: Tensor, rf: Tensor, k: int = K) -> Manifold:
    """Compare real and painted pictures by their distances; see `manifold`.

    Args:
        rr: distances among real pictures, (n, n).
        ff: among painted ones, (m, m).
        rf: from real to painted ones, (n, m).
        k: neighbours within a ball.

    Raises:
        TooFewError: a set with fewer than k + 1.
    """
    real_radii, fake_radii = _radii(rr, k), _radii(ff, k)
    inside = rf < real_radii.unsqueeze(1)
    return Manifold(
        precision=_mean(inside.any(0)),
        recall=_mean((rf < fake_radii).any(1)),
        density=_mean(inside.sum(0)) / k,
        coverage=_mean(rf.amin(1) < real_radii),
    )


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the Euclidean distances of (n, d) to (m, d): (n, m) in float64, exactly 0 between equals."""
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _radii(within: Tensor, k: int) -> Tensor:
    """Return each one's distance to its k-th nearest other, (n,)."""
    if len(within) <= k:
        raise TooFewError(f"a picture cannot have {k} neighbours among {len(within)} pictures. Give at least {k + 1}.")
    # The nearest of all is itself, at distance 0.
    return within.topk(k + 1, dim=1, largest=False).values[:, -1]


def _mean(x: Tensor) -> float:
    return float(x.double().mean())
