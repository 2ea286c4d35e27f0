"""The maximum mean discrepancy (MMD) of two sets of features: KID and CMMD, unbiased for any number of images.

    mmd2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

It is 0 on average for two sets from one distribution, hence slightly negative half of the time; clipping it at 0 would
bias it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics.estimate import TooFewError

SCALE = 1000.0
"""Factor of CMMD (arXiv:2401.09603); KID is usually shown times 1000 too."""


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return ``(x . y / d + 1)^3``, the kernel of KID (arXiv:1801.01401), of (n, d) and (m, d): (n, m) in float64."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def rbf_kernel(x: Tensor, y: Tensor, sigma: float = 10.0) -> Tensor:
    """Return ``exp(-|x - y|^2 / (2 sigma^2))``, the kernel of CMMD (arXiv:2401.09603), of (n, d) and (m, d).

    Returns:
        (n, m), in float64.
    """
    return torch.exp(-torch.cdist(x.double(), y.double()).square() / (2 * sigma**2))


def mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> float:
    """Return the unbiased estimate of the squared MMD (Gretton et al., JMLR 13, 2012, eq. 3).

    Args:
        kxx: kernel within the first set, (n, n).
        kyy: kernel within the second set, (m, m).
        kxy: kernel between the two, (n, m).

    Raises:
        TooFewError: fewer than 2 images in a set.
    """
    return float(_off_diagonal_mean(kxx) + _off_diagonal_mean(kyy) - 2 * kxy.mean())


def kid(x: Tensor, y: Tensor) -> float:
    """Return the kernel inception distance of features (n, d) and (m, d) (KID, arXiv:1801.01401), without subsets.

    It is not scaled; reports usually show it times 1000.
    """
    return mmd2(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y))


def cmmd(x: Tensor, y: Tensor) -> float:
    """Return the squared MMD of two sets of normalised features, times 1000 (CMMD, arXiv:2401.09603).

    Unbiased, as in the paper; its published code keeps ``k(x, x)`` in the means, which adds about
    ``1000 * (E|x - x'|^2 / n + E|y - y'|^2 / m) / (2 sigma^2)``.

    Args:
        x: features, (n, d), of any length but 0.
        y: features, (m, d), likewise.
    """
    x, y = F.normalize(x.double(), dim=1), F.normalize(y.double(), dim=1)
    return SCALE * mmd2(rbf_kernel(x, x), rbf_kernel(y, y), rbf_kernel(x, y))


def _off_diagonal_mean(k: Tensor) -> Tensor:
    n = len(k)
    if n < 2:
        raise TooFewError(f"the MMD needs at least 2 images in each set, and there are {n}.")
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
