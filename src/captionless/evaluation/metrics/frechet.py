"""The Fréchet distance of two sets of vectors, each summarised by its mean and covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import TooFewError


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the Fréchet distance (FID, arXiv:1706.08500, eq. 6), in float64.

        |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))

    Its bias grows with ``d / n``: believe it only where there are many more pictures than numbers in a feature, and
    compare only values of equally many pictures (arXiv:1801.01401).

    Args:
        x: features, (n, d).
        y: features, (m, d).

    Raises:
        TooFewError: fewer than 2 in a set.
    """
    if min(len(x), len(y)) < 2:
        raise TooFewError(f"a covariance needs at least 2 pictures, and there are {min(len(x), len(y))}. Give more.")
    x, y = x.double(), y.double()
    cx, cy = _covariance(x), _covariance(y)
    root = _root(cx)
    # C_x C_y has the eigenvalues of the symmetric root C_y root; rounding may push those at 0 below it.
    trace_of_root = torch.linalg.eigvalsh(root @ cy @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + cx.trace() + cy.trace() - 2 * trace_of_root)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def _root(c: Tensor) -> Tensor:
    """Return the symmetric root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(c)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
