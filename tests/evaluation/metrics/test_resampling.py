"""The contract of captionless.evaluation.metrics.resampling: ranges by drawing again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captionless.evaluation.metrics import cluster_mean, percentiles, random_halves
from tiny import random


@given(st.integers(2, 40), st.integers(0, 1000))
def test_halves_are_as_large_as_each_other_and_share_no_image(n: int, seed: int) -> None:
    for a, b in random_halves(n, seed, splits=5):
        assert len(a) == len(b) == n // 2
        together = torch.cat([a, b])
        assert len(together.unique()) == n // 2 * 2
        assert together.min() >= 0
        assert together.max() < n


def test_halves_are_random_but_the_same_for_a_seed() -> None:
    first, again, other = (random_halves(30, seed) for seed in (1, 1, 2))
    assert len(first) == 100
    assert all(
        torch.equal(x, y) for pair, same in zip(first, again, strict=True) for x, y in zip(pair, same, strict=True)
    )
    assert not all(torch.equal(a, c) for (a, _), (c, _) in zip(first, other, strict=True))
    assert not all(torch.equal(a, first[0][0]) for a, _ in first)


def test_each_image_is_in_either_half_equally_often_and_of_an_odd_number_one_sits_out() -> None:
    splits = random_halves(7, 0, splits=7000)
    for side in (0, 1):
        counts = torch.bincount(torch.cat([pair[side] for pair in splits]), minlength=7)
        assert (counts.double() / 7000 - 3 / 7).abs().max() < 0.03


def test_a_range_is_the_middle_95_percent_of_the_draws() -> None:
    found = percentiles([float(i) for i in range(1001)], 12)
    assert (found.value, found.low, found.high, found.n) == (500, 25, 975, 12)


def test_the_value_may_be_known_better_than_by_the_draws() -> None:
    assert percentiles([1.0, 2.0, 3.0], 5, value=2.1).value == 2.1


def test_draws_that_are_all_the_same_make_a_range_without_width() -> None:
    found = percentiles([0.1] * 7, 7)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 1e-15


def test_the_spread_over_halves_is_the_standard_error_of_the_full_mean() -> None:
    """The claim on which every range of a fidelity measure rests."""
    x = random(400).double()
    means = torch.stack([x[a].mean() for a, _ in random_halves(400, 0, splits=4000)])
    assert float(means.std()) == pytest.approx(float(x.std()) / 400**0.5, rel=0.05)


# --- the bootstrap over prompts ---


def test_a_cluster_mean_is_the_mean_of_the_images() -> None:
    scores, cluster = random(9), torch.tensor([5, 5, 5, 5, 5, 0, 0, 9, 9])
    found = cluster_mean(scores, cluster, 0)
    assert found.value == pytest.approx(float(scores.mean()))
    assert found.n == 9
    assert found.low < found.value < found.high


def test_images_that_repeat_their_prompt_s_score_add_no_certainty() -> None:
    scores = random(30)
    once = cluster_mean(scores, torch.arange(30), 0)
    tenfold = cluster_mean(scores.repeat_interleave(10), torch.arange(30).repeat_interleave(10), 0)
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert tenfold.n == 300


def test_the_bootstrap_holds_the_truth_nearly_95_percent_of_the_time() -> None:
    held = []
    for seed in range(400):
        prompts = random(30, seed=2 * seed).repeat_interleave(4)
        found = cluster_mean(prompts + 0.3 * random(120, seed=2 * seed + 1), torch.arange(120) // 4, seed)
        held.append(found.low <= 0 <= found.high)
    assert 0.9 < sum(held) / 400 < 0.98


def test_the_bootstrap_is_the_same_for_a_seed() -> None:
    scores, cluster = random(20), torch.arange(20) // 2
    assert cluster_mean(scores, cluster, 3) == cluster_mean(scores, cluster, 3)
    assert cluster_mean(scores, cluster, 3) != cluster_mean(scores, cluster, 4)
