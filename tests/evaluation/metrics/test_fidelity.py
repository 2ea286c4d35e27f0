"""The contract of captionless.evaluation.metrics.fidelity: figures of generated images beside those of real ones."""

from dataclasses import astuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics import (
    MINIMUM,
    Comparison,
    TooFewError,
    cmmd,
    compare_sets,
    kid,
    paired_kid,
    precision_recall,
    random_halves,
)
from captionless.evaluation.metrics.fidelity import MANIFOLD
from tiny import random

ALL = ("kid", "cmmd", *MANIFOLD)


def figures(real: Tensor, fake: Tensor, **options: int) -> dict[str, Comparison]:
    return {found.name: found for found in compare_sets(real, fake, **options)}


def test_every_figure_is_that_of_real_half_a_against_the_other_half_sampled() -> None:
    real, fake = random(51, 6), random(51, 6, seed=1) + 0.3
    found = figures(real, fake, seed=4)
    assert tuple(found) == ALL
    for side, name in ((fake, "model"), (real, "real")):
        draws = []
        for a, b in random_halves(51, 4):
            x, y = real[a], side[b]
            draws.append((1000 * kid(x, y), cmmd(x, y), *precision_recall(x, y)))
        for figure, values in zip(ALL, torch.tensor(draws, dtype=torch.float64).T, strict=True):
            estimate = getattr(found[figure], name)
            assert estimate.value == pytest.approx(float(values.mean()), rel=1e-9, abs=1e-9)
            assert estimate.low == pytest.approx(float(values.quantile(0.025)), rel=1e-9, abs=1e-9)
            assert estimate.high == pytest.approx(float(values.quantile(0.975)), rel=1e-9, abs=1e-9)
            assert estimate.n == 51


def test_a_model_that_copies_its_images_reads_as_real_ones_do_and_no_better() -> None:
    """Were an image compared with the one it came from, copies would read far better than real images."""
    real = random(60, 5)
    for found in figures(real, real.clone()).values():
        assert astuple(found.model) == pytest.approx(astuple(found.real), rel=1e-9, abs=1e-9)


def test_images_of_the_same_distribution_lie_within_the_range_of_real_ones() -> None:
    for found in figures(random(200, 5), random(200, 5, seed=1)).values():
        assert found.real.low <= found.model.value <= found.real.high, found.name


def test_worse_images_read_worse_in_every_figure() -> None:
    real = random(80, 5)
    near, far = (figures(real, random(80, 5, seed=1) * 0.9 + shift) for shift in (0.3, 1.5))
    for name in ("kid", "cmmd"):
        assert near[name].model.value < far[name].model.value
    for name in MANIFOLD:
        assert near[name].model.value > far[name].model.value


def test_the_reference_reads_nothing_for_unbiased_figures() -> None:
    for name, found in figures(random(100, 5), random(100, 5, seed=1)).items():
        if name in ("kid", "cmmd"):
            assert found.real.low < 0 < found.real.high
            assert abs(found.real.value) < 0.2 * (found.real.high - found.real.low)


def test_the_same_seed_gives_the_same_figures() -> None:
    real, fake = random(50, 4), random(50, 4, seed=1)
    assert compare_sets(real, fake, seed=3) == compare_sets(real, fake, seed=3)
    assert compare_sets(real, fake, seed=3) != compare_sets(real, fake, seed=4)


@pytest.mark.slow
def test_the_range_holds_the_truth_in_about_95_percent_of_experiments() -> None:
    """KID of N(0, I) and N(s, I) in d dimensions, in closed form, with q = |s|^2."""
    d, q = 8, 2.0
    same = 1 + 3 / d
    between = 1 + 3 * (d + q) / d**2
    shifted = 1 + 3 * q / d + 3 * (d + 2 * q + q**2) / d**2 + (q**3 + 6 * q**2 + 3 * d * q + 6 * q) / d**3
    truth = 1000 * (same + shifted - 2 * between)
    held = []
    for seed in range(60):
        found = paired_kid(random(60, d, seed=2 * seed), random(60, d, seed=2 * seed + 1) + (q / d) ** 0.5)
        held.append(found.low <= truth <= found.high)
    assert sum(held) >= 53


# --- how many images each figure needs ---


@pytest.mark.parametrize(("n", "names"), [(49, ("kid", "cmmd")), (50, ALL)])
def test_figures_that_need_more_images_are_left_out(n: int, names: tuple[str, ...]) -> None:
    assert tuple(figures(random(n, 4), random(n, 4, seed=1))) == names


def test_19_images_are_too_few_for_anything() -> None:
    few, enough = random(MINIMUM - 1, 3), random(MINIMUM, 3)
    for measure in (compare_sets, paired_kid):
        with pytest.raises(TooFewError, match=r"at least 20 images, but there are 19"):
            measure(few, few)
        measure(enough, enough)


def test_images_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="belongs to real image i"):
        compare_sets(random(30, 3), random(31, 3))


# --- marks on the scale ---


def test_a_mark_is_the_kid_of_a_model_that_generates_the_altered_images() -> None:
    real = random(50, 4)
    altered = real + 0.3 * random(50, 4, seed=1)
    assert paired_kid(real, altered, seed=2) == figures(real, altered, seed=2)["kid"].model


def test_marks_of_stronger_alterations_lie_farther_out() -> None:
    real = random(100, 8)
    marks = [paired_kid(real, real + strength).value for strength in (0.1, 0.4, 0.8)]
    assert marks == sorted(marks)
    assert marks[0] < marks[2] / 10


def test_cmmd_ignores_lengths_and_kid_does_not() -> None:
    real = F.normalize(random(60, 4), dim=1)
    found = figures(real, 3 * real)
    assert found["cmmd"].model.value == pytest.approx(found["cmmd"].real.value, abs=1e-6)
    assert found["kid"].model.value > found["kid"].real.high


# --- random halves ---


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


def test_the_spread_over_halves_is_the_standard_error_of_the_full_mean() -> None:
    """The claim on which every range of a fidelity measure rests."""
    x = random(400).double()
    means = torch.stack([x[a].mean() for a, _ in random_halves(400, 0, splits=4000)])
    assert float(means.std()) == pytest.approx(float(x.std()) / 400**0.5, rel=0.05)
