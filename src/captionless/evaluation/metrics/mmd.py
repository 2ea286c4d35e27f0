"""The maximum mean discrepancy (MMD) of two sets of vectors: an unbiased distance that is sound for few pictures.

    mmd2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

0 on average for two sets of one distribution, and then as often a little below 0 as above: clipping would bias it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics.estimate import TooFewError

SIGMA = 10.0
"""Bandwidth of CMMD (arXiv:2401.09603)."""

SCALE = 1000.0
"""What CMMD is multiplied by, to be readable (arXiv:2401.09603); KID is usually shown so too."""


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return ``(x . y / d + 1)^3``, the kernel of KID (arXiv:1801.01401).

    Args:
        x: vectors, (n, d).
        y: vectors, (m, d).

    Returns:
        (n, m), in float64.
    """
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def rbf_kernel(x: Tensor, y: Tensor, sigma: float = SIGMA) -> Tensor:
    """Return ``exp(-|x - y|^2 / (2 sigma^2))``, the kernel of CMMD (arXiv:2401.09603).

    Args:
        x: vectors, (n, d).
        y: vectors, (m, d).
        sigma: bandwidth, in the unit of the vectors.

    Returns:
        (n, m), in float64.
    """
    return torch.exp(-torch.cdist(x.double(), y.double()).square() / (2 * sigma**2))


def mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> float:
    """Return the unbiased estimate of the squared MMD (Gretton et al., JMLR 13, 2012, eq. 3).

    Args:
        kxx: the kernel among the first set, (n, n).
        kyy: among the second, (m, m).
        kxy: between them, (n, m).

    Raises:
        TooFewError: fewer than 2 in a set.
    """
    return float(_mean_of_others(kxx) + _mean_of_others(kyy) - 2 * kxy.mean())


def kid(x: Tensor, y: Tensor) -> float:
    """Return the kernel distance of two sets of features (KID, arXiv:1801.01401), from all of them at once.

    Args:
        x: features, (n, d).
        y: features, (m, d).

    Returns:
        The squared MMD, not scaled; people usually read it times 1000.
    """
    return mmd2(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y))


def cmmd(x: Tensor, y: Tensor) -> float:
    """Return the squared MMD of two sets of directions, times 1000 (CMMD, arXiv:2401.09603).

    As the paper writes it, unbiased; its published code keeps ``k(x, x)`` in the means, which adds about
    ``1000 * (E|x - x'|^2 / n + E|y - y'|^2 / m) / (2 sigma^2)``.

    Args:
        x: features, (n, d), of any length but 0.
        y: features, (m, d), likewise.
    """
    x, y = F.normalize(x.double(), dim=1), F.normalize(y.double(), dim=1)
    return SCALE * mmd2(rbf_kernel(x, x), rbf_kernel(y, y), rbf_kernel(x, y))


def _mean_of_others(k: Tensor) -> Tensor:
    """Average a kernel over all pairs of two different ones."""
    n = len(k)
    if n < 2:
        raise TooFewError(f"a discrepancy needs at least 2 pictures on either side, and there are {n}. Give more.")
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
