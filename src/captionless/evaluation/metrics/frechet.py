"""The Fréchet distance (FID) of two sets of features, from their means and covariances."""

from __future__ import annotations

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import TooFewError


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the Fréchet distance (FID, arXiv:1706.08500, eq. 6), in float64.

        |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))

    Its bias grows with ``d / n``: trust it only with many more images than feature dimensions, and compare only values
    of equally many images (arXiv:1801.01401).

    Args:
        x: features, (n, d).
        y: features, (m, d).

    Raises:
        TooFewError: fewer than 2 images in a set.
    """
    if min(len(x), len(y)) < 2:
        raise TooFewError(f"a covariance needs at least 2 images, and there are {min(len(x), len(y))}.")
    x, y = x.double(), y.double()
    cx, cy = _covariance(x), _covariance(y)
    values, vectors = torch.linalg.eigh(cx)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    # C_x C_y has the eigenvalues of the symmetric root C_y root; rounding may push those at 0 below it.
    trace_of_root = torch.linalg.eigvalsh(root @ cy @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + cx.trace() + cy.trace() - 2 * trace_of_root)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)
