"""Newton-Schulz iterations: the orthogonal matrix nearest to another one, from products of matrices alone."""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Factors of x, x^3 and x^5 in the polynomial that brings all singular values near 1 (Jordan, see `orthogonalise`)."""


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return matrices with the same singular vectors and singular values of about 1, (n, rows, columns).

    After five iterations the singular values lie between 0.7 and 1.2, except those below some 3% of the norm
    (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024).
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x: Tensor = wide / wide.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]
    # On CUDA, products may have the few digits of TF32: too few for the small eigenvalues of the Gram matrix.
    long = x.shape[2] >= 2 * x.shape[1] and not x.is_cuda
    x = (_iterate_on_gram_matrix if long else _iterate)(x, iterations)
    return x if wide is matrices else x.mT


def _iterate(x: Tensor, iterations: int) -> Tensor:
    """Apply the polynomial to the singular values of matrices: x <- (a + b x x^T + c (x x^T)^2) x."""
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, _even_powers(gram), x, beta=COEFFICIENTS[0])
    return x


def _iterate_on_gram_matrix(x: Tensor, iterations: int) -> Tensor:
    """Do the same with two products that have the length of the rows, instead of two in each iteration.

    All iterates are ``factor @ x`` for the first x, and their Gram matrices follow from its Gram matrix.
    """
    gram = x @ x.mT
    factor = torch.eye(len(gram[0]), dtype=x.dtype, device=x.device).expand_as(gram)
    for iteration in range(iterations):
        polynomial = _even_powers(gram)
        factor = torch.baddbmm(factor, polynomial, factor, beta=COEFFICIENTS[0])
        if iteration + 1 < iterations:
            half = torch.baddbmm(gram, polynomial, gram, beta=COEFFICIENTS[0])
            gram = torch.baddbmm(half, half, polynomial, beta=COEFFICIENTS[0])
    return factor @ x


def _even_powers(gram: Tensor) -> Tensor:
    """Return b G + c G^2 for Gram matrices."""
    _, b, c = COEFFICIENTS
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
