"""The contract of captionless.evaluation.metrics.mmd: an unbiased distance of two sets."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import polynomial_kernel as sklearn_polynomial
from sklearn.metrics.pairwise import rbf_kernel as sklearn_rbf
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.evaluation.metrics import TooFewError, cmmd, kid, mmd2, polynomial_kernel, rbf_kernel
from tiny import random

X, Y = random(40, 12), 0.7 * random(40, 12, seed=1) + 0.4


def features(n: int, width: int, seed: int) -> Tensor:
    return random(n, width, seed=seed)


# --- against other libraries ---


@pytest.mark.parametrize("sigma", [0.5, 10.0])
def test_the_rbf_kernel_is_that_of_scikit_learn(sigma: float) -> None:
    expected = torch.from_numpy(sklearn_rbf(X.double(), Y.double(), gamma=1 / (2 * sigma**2)))
    torch.testing.assert_close(rbf_kernel(X, Y, sigma), expected, rtol=1e-10, atol=1e-14)


def test_the_polynomial_kernel_is_that_of_scikit_learn() -> None:
    expected = torch.from_numpy(sklearn_polynomial(X.double(), Y.double(), degree=3, coef0=1))
    torch.testing.assert_close(polynomial_kernel(X, Y), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kid_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance  # which takes a second

    other = KernelInceptionDistance(feature=nn.Identity(), subsets=1, subset_size=40)
    other.update(X, real=True)
    other.update(Y, real=False)
    assert kid(X, Y) == pytest.approx(float(other.compute()[0]), rel=1e-4)


def test_cmmd_is_that_of_scikit_learns_kernel() -> None:
    x, y = F.normalize(X.double(), dim=1), F.normalize(Y.double(), dim=1)

    def mean(a: Tensor, b: Tensor, same: bool) -> float:
        kernel = torch.from_numpy(sklearn_rbf(a, b, gamma=1 / 200))
        return float((kernel.sum() - kernel.diag().sum()) / (len(a) * (len(a) - 1)) if same else kernel.mean())

    expected = 1000 * (mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))
    assert cmmd(X, Y) == pytest.approx(expected, rel=1e-6)


def test_neither_torch_fidelity_nor_torchvision_comes_with_the_tests() -> None:
    """A user may well have them; the versions that CI installs must do without."""
    for name in ("constraints.txt", "pyproject.toml"):
        text = (Path(__file__).parents[3] / name).read_text(encoding="utf-8")
        assert "fidelity" not in text
        assert "torchvision" not in text


def test_cmmd_is_that_of_the_paper_written_out() -> None:
    """arXiv:2401.09603 with sums over pairs; its estimate of 1000 mmd^2 at sigma 10, of unit vectors."""
    x, y = F.normalize(X.double()[:6], dim=1), F.normalize(Y.double()[:5], dim=1)

    def k(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / 200)

    within_x = sum(k(x[i], x[j]) for i in range(6) for j in range(6) if i != j) / 30
    within_y = sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(k(a, b) for a in x for b in y) / 30
    assert cmmd(X[:6], Y[:5]) == pytest.approx(1000 * (within_x + within_y - 2 * between), rel=1e-9)


# --- against closed forms ---


def gaussian_mmd2(distance: float, s: float, t: float, sigma: float, d: int) -> float:
    """The squared MMD of N(m, s^2 I) and N(m', t^2 I) in d dimensions, by the integral of a Gaussian kernel."""

    def mean_kernel(variance: float, square: float) -> float:
        return float((sigma**2 / (sigma**2 + variance)) ** (d / 2) * math.exp(-square / (2 * (sigma**2 + variance))))

    return mean_kernel(2 * s * s, 0) + mean_kernel(2 * t * t, 0) - 2 * mean_kernel(s * s + t * t, distance**2)


def averaged(pairs: Tensor) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(pairs.mean()), float(pairs.std() / len(pairs) ** 0.5)


@pytest.mark.parametrize(("distance", "t"), [(0.0, 1.0), (0.0, 1.5), (1.0, 1.0), (0.8, 0.5)])
def test_it_is_unbiased_however_few_the_images(distance: float, t: float) -> None:
    shift = torch.tensor([distance, 0.0, 0.0])
    draws = []
    for seed in range(1500):
        x, y = features(5, 3, 2 * seed), t * features(7, 3, 2 * seed + 1) + shift
        draws.append(mmd2(rbf_kernel(x, x, 1.2), rbf_kernel(y, y, 1.2), rbf_kernel(x, y, 1.2)))
    mean, error = averaged(torch.tensor(draws))
    assert abs(mean - gaussian_mmd2(distance, 1.0, t, 1.2, 3)) < 3.5 * error


def test_it_nears_the_closed_form_with_many_images() -> None:
    x, y = random(1500, 4), 0.5 * random(1500, 4, seed=1) + 0.6
    found = mmd2(rbf_kernel(x, x, 2.0), rbf_kernel(y, y, 2.0), rbf_kernel(x, y, 2.0))
    assert found == pytest.approx(gaussian_mmd2(1.2, 1.0, 0.5, 2.0, 4), rel=0.05)


@pytest.mark.slow
def test_kid_of_two_numbers_is_the_third_moments_own() -> None:
    """In one dimension E (xy + 1)^3 = sum_k C(3, k) E x^k E y^k, of N(m, 1): 1, m, m^2 + 1, m^3 + 3 m."""

    def mean_kernel(m: float, n: float) -> float:
        return sum(
            math.comb(3, k) * a * b
            for k, (a, b) in enumerate(
                zip((1, m, m * m + 1, m**3 + 3 * m), (1, n, n * n + 1, n**3 + 3 * n), strict=True)
            )
        )

    draws = [kid(features(6, 1, 2 * seed), features(6, 1, 2 * seed + 1) + 0.5) for seed in range(3000)]
    mean, error = averaged(torch.tensor(draws))
    assert abs(mean - (mean_kernel(0, 0) + mean_kernel(0.5, 0.5) - 2 * mean_kernel(0, 0.5))) < 3.5 * error


def test_two_halves_of_one_set_are_as_often_a_little_below_nothing_as_above() -> None:
    pool = random(60, 6).double()
    values = []
    for seed in range(400):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        values.append(kid(pool[order[:30]], pool[order[30:]]))
    mean, error = averaged(torch.tensor(values))
    assert abs(mean) < 3 * error
    assert 0.2 < sum(value < 0 for value in values) / 400 < 0.8


# --- properties ---


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 6), st.integers(0, 10**6))
def test_it_is_symmetric_and_blind_to_order(n: int, m: int, width: int, seed: int) -> None:
    x, y = features(n, width, seed), features(m, width, seed + 1) + 1
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for distance in (kid, cmmd):
        assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-9, abs=1e-9)
        assert distance(x[order], y) == pytest.approx(distance(x, y), rel=1e-9, abs=1e-9)


@given(st.floats(0.01, 100), st.integers(0, 10**6))
def test_cmmd_compares_directions_and_not_lengths(length: float, seed: int) -> None:
    x, y = features(5, 4, seed), features(6, 4, seed + 1)
    assert cmmd(length * x, y) == pytest.approx(cmmd(x, y), rel=1e-4, abs=1e-4)


def test_farther_sets_read_more() -> None:
    assert kid(X, X + 0.1) < kid(X, X + 0.5) < kid(X, X + 1)
    assert cmmd(X, X + 0.5) < cmmd(X, X + 1) < cmmd(X, X + 3)


def test_close_sets_are_told_apart_in_spite_of_kernels_near_one() -> None:
    """At sigma 10 the kernel of unit vectors lies in [0.98, 1]: in float32 its sixth digit would be noise."""
    x = F.normalize(random(200, 32), dim=1)
    found = cmmd(x, F.normalize(x + 1e-3, dim=1))
    exact = cmmd(x.double(), F.normalize(x.double() + 1e-3, dim=1))
    assert found == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("sizes", [(1, 5), (5, 1), (0, 5)])
def test_a_single_image_is_too_few(sizes: tuple[int, int]) -> None:
    with pytest.raises(TooFewError, match="at least 2"):
        kid(X[: sizes[0]], Y[: sizes[1]])
