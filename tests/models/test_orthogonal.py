"""The contract of captionless.models.orthogonal: singular values near 1, by the polynomial that is stated."""

import pytest
import torch

from captionless.models.orthogonal import COEFFICIENTS, orthogonalise
from tiny import random

SHAPES = [(16, 24), (16, 40), (40, 16), (24, 24), (6, 200)]
"""Matrices up to twice as long as wide, and longer ones, whose iterations are those of their Gram matrices."""


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_about_1_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    matrices = random(3, *shape)
    for matrix, found in zip(matrices, orthogonalise(matrices), strict=True):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        inner = left.T @ found @ right.T  # diagonal if the singular vectors are the same
        assert (inner - torch.diag(inner.diag())).abs().max() < 1e-4
        assert inner.diag()[values > 0.03 * values.norm()].min() > 0.6
        assert inner.diag().max() < 1.25


@pytest.mark.parametrize("iterations", [1, 2, 4, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_polynomial_acts_on_singular_values_large_and_small(shape: tuple[int, int], iterations: int) -> None:
    left, values, right = torch.linalg.svd(random(*shape).double(), full_matrices=False)
    values = torch.logspace(0, -6, len(values), dtype=torch.float64)
    expected = values / values.norm()
    for _ in range(iterations):
        expected = sum(factor * expected ** (2 * i + 1) for i, factor in enumerate(COEFFICIENTS))
    found = orthogonalise((left @ values.diag() @ right).float()[None], iterations)[0]
    # Five iterations multiply the smallest singular values, and their rounding, by 485.
    torch.testing.assert_close(found.double(), left @ expected.diag() @ right, atol=1e-3, rtol=0)


def test_a_matrix_of_zeros_stays_one() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 12)), torch.zeros(1, 4, 12))
