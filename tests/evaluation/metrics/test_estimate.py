"""The contract of captionless.evaluation.metrics.estimate: shares and their ranges."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captionless.errors import CaptionlessError
from captionless.evaluation.metrics import Estimate, TooFewError, cluster_mean, difference_low, percentiles, share
from captionless.evaluation.metrics.estimate import Z
from tiny import random, uniform

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_the_ends_of_a_range_are_where_the_score_test_just_rejects(counts: tuple[int, int]) -> None:
    """Wilson's range by its definition: the shares p with |hits/n - p| = Z sqrt(p (1 - p) / n)."""
    hits, n = counts
    found = share(hits, n)
    assert (found.value, found.n) == (hits / n, n)
    for p in (found.low, found.high):
        assert (found.value - p) ** 2 == pytest.approx(Z**2 * p * (1 - p) / n, rel=1e-6, abs=1e-12)


@given(COUNTS)
def test_a_range_holds_its_value_and_stays_a_share(counts: tuple[int, int]) -> None:
    found = share(*counts)
    assert -1e-15 <= found.low <= found.value <= found.high <= 1 + 1e-15
    assert found.high - found.low > 0


def test_none_of_ten_may_still_be_a_quarter() -> None:
    """Newcombe, Statistics in Medicine 17, 1998, part I: the ends are 0 and Z^2 / (n + Z^2)."""
    found = share(0, 10)
    assert found.low == pytest.approx(0, abs=1e-15)
    assert found.high == pytest.approx(Z**2 / (10 + Z**2))
    assert found.high == pytest.approx(0.2775, abs=1e-4)


@given(COUNTS)
def test_hits_and_misses_are_treated_alike(counts: tuple[int, int]) -> None:
    hits, n = counts
    found, mirrored = share(hits, n), share(n - hits, n)
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-12)


def test_more_images_make_a_narrower_range() -> None:
    widths = [share(n // 4, n) for n in (8, 40, 400, 4000)]
    assert all(a.high - a.low > b.high - b.low for a, b in pairwise(widths))


def test_a_range_holds_the_truth_in_95_percent_of_experiments() -> None:
    for truth in (0.05, 0.5):
        hits = (uniform(4000, 60) < truth).sum(1).tolist()
        held = [found.low <= truth <= found.high for found in (share(k, 60) for k in hits)]
        assert 0.93 < sum(held) / len(held) < 0.98


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(TooFewError, match="at least 1"):
        share(0, 0)
    assert issubclass(TooFewError, CaptionlessError)


def test_the_excess_is_that_of_the_published_example() -> None:
    """Newcombe, Statistics in Medicine 17, 1998, part II, table II, (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339."""
    assert difference_low(share(56, 70), share(48, 80)) == pytest.approx(0.0524, abs=5e-5)
    assert -difference_low(share(48, 80), share(56, 70)) == pytest.approx(0.3339, abs=5e-5)


def test_equal_shares_exceed_each_other_by_less_than_nothing() -> None:
    assert difference_low(share(3, 100), share(3, 100)) < 0
    assert difference_low(share(0, 50), share(0, 50)) < 0


def test_a_clear_excess_is_positive_and_below_the_difference() -> None:
    assert 0 < difference_low(share(40, 100), share(2, 100)) < 0.38


def test_the_excess_is_right_in_97_of_100_experiments() -> None:
    """One end of a 95% range: the true difference lies above it 97.5% of the time."""
    p, q = 0.3, 0.1
    first, second = (uniform(3000, 80) < p).sum(1).tolist(), (uniform(3000, 50, seed=1) < q).sum(1).tolist()
    below = [difference_low(share(a, 80), share(b, 50)) <= p - q for a, b in zip(first, second, strict=True)]
    assert 0.96 < sum(below) / len(below) < 0.99


def test_an_estimate_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Estimate(1.0, 0.0, 2.0, 3).value = 2.0  # type: ignore[misc]


# --- ranges by drawing again ---


def test_a_range_is_the_middle_95_percent_of_the_draws() -> None:
    found = percentiles([float(i) for i in range(1001)], 12)
    assert (found.value, found.low, found.high, found.n) == (500, 25, 975, 12)


def test_the_value_may_be_known_better_than_by_the_draws() -> None:
    assert percentiles([1.0, 2.0, 3.0], 5, value=2.1).value == 2.1


def test_draws_that_are_all_the_same_make_a_range_without_width() -> None:
    found = percentiles([0.1] * 7, 7)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 1e-15


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
