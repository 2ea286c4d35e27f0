"""The contract of captionless.evaluation.metrics.frechet: the Fréchet distance of two sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from captionless.evaluation.metrics import TooFewError, frechet_distance
from tiny import random


def with_moments(n: int, mean: Tensor, covariance: Tensor, seed: int = 0) -> Tensor:
    """Draw vectors whose own mean and covariance are exactly these."""
    x = random(n, len(mean), seed=seed).double()
    x = x - x.mean(0)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False).T
    return whitened @ torch.linalg.cholesky(covariance.double()).T + mean.double()


def covariance(d: int, seed: int) -> Tensor:
    factor = random(d, d, seed=seed).double()
    return factor @ factor.T + 0.1 * torch.eye(d, dtype=torch.float64)


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9), st.floats(-3, 3)), min_size=1, max_size=5))
def test_independent_axes_add_up_their_own_distances(axes: list[tuple[float, float, float]]) -> None:
    """Of N(m, diag(a)) and N(0, diag(b)): sum (m^2 + (sqrt a - sqrt b)^2)."""
    a, b, m = torch.tensor(axes, dtype=torch.float64).T
    found = frechet_distance(with_moments(30, m, a.diag()), with_moments(40, 0 * m, b.diag(), seed=1))
    assert found == pytest.approx(float((m**2 + (a.sqrt() - b.sqrt()) ** 2).sum()), rel=1e-6, abs=1e-9)


def test_covariances_that_do_not_commute_are_handled() -> None:
    """The trace of the root of C_x C_y, by the eigenvalues of that product itself."""
    a, b, m = covariance(6, 1), covariance(6, 2), random(6).double()
    root = torch.linalg.eigvals(a @ b).real.sqrt().sum()
    expected = float(m.square().sum() + a.trace() + b.trace() - 2 * root)
    assert frechet_distance(with_moments(50, m, a), with_moments(60, 0 * m, b, seed=1)) == pytest.approx(expected)


def test_it_is_that_of_torchmetrics() -> None:
    x, y = random(80, 10), 0.6 * random(70, 10, seed=1) @ random(10, 10, seed=2) + 0.5
    look = nn.Identity()
    look.num_features = 10  # type: ignore[assignment]
    other = FrechetInceptionDistance(feature=look).set_dtype(torch.float64)
    other.update(x, real=True)
    other.update(y, real=False)
    assert frechet_distance(x, y) == pytest.approx(float(other.compute()), rel=1e-4)


@given(st.integers(1, 8), st.integers(0, 10**6), st.floats(0.1, 10))
def test_it_is_symmetric_moves_with_nothing_and_scales_by_the_square(d: int, seed: int, scale: float) -> None:
    x, y = random(12, d, seed=seed).double(), 2 * random(15, d, seed=seed + 1).double() + 1
    turn = torch.linalg.qr(random(d, d, seed=seed + 2).double()).Q
    found = frechet_distance(x, y)
    for other in (frechet_distance(y, x), frechet_distance(x @ turn + 3, y @ turn + 3)):
        assert other == pytest.approx(found, rel=1e-6, abs=1e-6)
    assert frechet_distance(scale * x, scale * y) == pytest.approx(scale**2 * found, rel=1e-6, abs=1e-6)


def test_a_set_is_at_no_distance_from_itself_even_with_more_numbers_than_images() -> None:
    x = random(10, 40)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)


def test_small_sets_look_farther_than_they_are() -> None:
    """Why it is only shown where a half has more images than a feature has numbers."""
    small, large = (
        frechet_distance(random(20, 8), random(20, 8, seed=1)),
        frechet_distance(random(2000, 8), random(2000, 8, seed=1)),
    )
    assert small > 10 * large > 0


@pytest.mark.parametrize("sizes", [(1, 5), (5, 0)])
def test_a_single_image_has_no_covariance(sizes: tuple[int, int]) -> None:
    with pytest.raises(TooFewError, match=f"at least 2 images, and there are {min(sizes)}"):
        frechet_distance(random(sizes[0], 3), random(sizes[1], 3))
