"""The contract of captionless.evaluation.metrics.manifold: precision, recall, density and coverage."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from captionless.evaluation.metrics import TooFewError, precision_recall
from captionless.evaluation.metrics.manifold import distances
from tiny import random


@settings(max_examples=40)
@given(st.integers(9, 40), st.integers(9, 40), st.integers(1, 6), st.integers(1, 7), st.integers(0, 10**6))
def test_it_is_that_of_prdc(n: int, m: int, d: int, k: int, seed: int) -> None:
    real, fake = random(n, d, seed=seed).double(), 1.3 * random(m, d, seed=seed + 1).double() + 0.3
    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    assert precision_recall(real, fake, k)._asdict() == pytest.approx(expected, abs=1e-12)


def test_a_case_worked_by_hand() -> None:
    """On a line with k = 1: the balls of 0 and 1 reach 1, that of 10 reaches 9; those of 0.5 and 6.5 reach 6."""
    real, fake = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [6.5]])
    found = precision_recall(real, fake, k=1)
    assert found.precision == 1  # 0.5 lies within (0, 2), 6.5 within (1, 19)
    assert found.recall == 1  # 0 and 1 within (-5.5, 6.5), 10 within (0.5, 12.5)
    assert found.density == pytest.approx((2 + 1) / 2)  # 0.5 in two balls, 6.5 in one
    assert found.coverage == 1  # 0.5 is in the balls of 0 and 1, 6.5 in that of 10


def test_sets_far_apart_share_nothing() -> None:
    assert precision_recall(random(20, 3), random(20, 3, seed=1) + 100) == (0, 0, 0, 0)


def test_a_copy_of_the_images_is_all_precision_and_recall() -> None:
    real = random(30, 4)
    found = precision_recall(real, real)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_one_image_over_and_over_is_precise_and_shows_little() -> None:
    """Around it there is no manifold at all: recall falls to nothing while precision stays."""
    real = random(40, 3)
    found = precision_recall(real, real[:1].expand(40, -1))
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage < 0.5


def test_two_sets_of_one_distribution_have_density_1_and_the_expected_coverage() -> None:
    """Density averages 1; coverage 1 - prod_i (n - i) / (n + m - i), i = 1..k (arXiv:2002.09797): of ranks alone."""
    n, m, k = 20, 12, 3
    found = [precision_recall(random(n, 4, seed=2 * s), random(m, 4, seed=2 * s + 1), k) for s in range(400)]
    expected = 1 - torch.tensor([(n - i) / (n + m - i) for i in range(1, k + 1)]).prod()
    for name, truth in (("density", 1.0), ("coverage", float(expected))):
        values = torch.tensor([getattr(f, name) for f in found])
        assert abs(float(values.mean()) - truth) < 3.5 * float(values.std()) / 400**0.5


@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_turning_moving_and_scaling_both_sets_changes_nothing(seed: int, scale: float) -> None:
    real, fake = random(15, 3, seed=seed).double(), random(12, 3, seed=seed + 1).double() + 0.5
    turn = torch.linalg.qr(random(3, 3, seed=seed + 2).double()).Q
    assert precision_recall(scale * real @ turn + 7, scale * fake @ turn + 7) == precision_recall(real, fake)


@given(st.integers(0, 10**6))
def test_swapping_the_sets_swaps_precision_and_recall(seed: int) -> None:
    a, b = random(15, 3, seed=seed), random(20, 3, seed=seed + 1) + 0.5
    one, other = precision_recall(a, b), precision_recall(b, a)
    assert (one.precision, one.recall) == (other.recall, other.precision)


def test_the_same_image_twice_is_at_no_distance_however_long_its_vector() -> None:
    x = (1000 * random(60, 64)).repeat(2, 1)
    assert distances(x, x).diagonal(60).abs().max() == 0


@pytest.mark.parametrize("sizes", [(5, 20), (20, 5)])
def test_fewer_images_than_neighbours_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(TooFewError, match=r"5 nearest neighbours need at least 6 images, but there are 5"):
        precision_recall(random(sizes[0], 3), random(sizes[1], 3))
