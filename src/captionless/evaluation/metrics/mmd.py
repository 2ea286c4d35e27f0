"""The maximum mean discrepancy (MMD) between two sets of features: KID and CMMD, unbiased for any number of images.

    mmd2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

It is 0 on average for two sets from the same distribution, so it is slightly negative half of the time. Clipping it at
0 would introduce a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics.estimate import TooFewError

SCALE = 1000.0
"""Scale factor of CMMD (arXiv:2401.09603); KID is usually also reported times 1000."""


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel of KID (arXiv:1801.01401), ``(x . y / d + 1)^3``, (n, m) in float64 for (n, d) and (m, d)."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def rbf_kernel(x: Tensor, y: Tensor, sigma: float = 10.0) -> Tensor:
    """Return the kernel of CMMD (arXiv:2401.09603), ``exp(-|x - y|^2 / (2 sigma^2))``.

    Args:
        x: features, (n, d).
        y: features, (m, d).
        sigma: width of the kernel.

    Returns:
        The kernel values, (n, m) in float64.
    """
    return torch.exp(-torch.cdist(x.double(), y.double()).square() / (2 * sigma**2))


def mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> float:
    """Return the unbiased estimate of the squared MMD (Gretton et al., JMLR 13, 2012, eq. 3).

    Args:
        kxx: kernel values within the first set, (n, n).
        kyy: kernel values within the second set, (m, m).
        kxy: kernel values between the sets, (n, m).

    Raises:
        TooFewError: a set has fewer than 2 images.
    """
    return float(_off_diagonal_mean(kxx) + _off_diagonal_mean(kyy) - 2 * kxy.mean())


def kid(x: Tensor, y: Tensor) -> float:
    """Return the kernel inception distance (KID, arXiv:1801.01401) between features (n, d) and (m, d), without subsets.

    The value is not scaled; it is usually reported times 1000.
    """
    return mmd2(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y))


def cmmd(x: Tensor, y: Tensor) -> float:
    """Return the squared MMD of two sets of normalised features, times 1000 (CMMD, arXiv:2401.09603).

    The estimate is unbiased, as in the paper. The paper's published code includes ``k(x, x)`` in the means, which adds
    about ``1000 * (E|x - x'|^2 / n + E|y - y'|^2 / m) / (2 sigma^2)``.

    Args:
        x: non-zero feature vectors, (n, d).
        y: non-zero feature vectors, (m, d).
    """
    x, y = F.normalize(x.double(), dim=1), F.normalize(y.double(), dim=1)
    return SCALE * mmd2(rbf_kernel(x, x), rbf_kernel(y, y), rbf_kernel(x, y))


def _off_diagonal_mean(k: Tensor) -> Tensor:
    n = len(k)
    if n < 2:
        raise TooFewError(f"the MMD needs at least 2 images in each set, but there are {n}.")
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
