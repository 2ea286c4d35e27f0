"""The contract of captionless.evaluation.metrics.text_alignment: whether images follow their prompts."""

from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.metrics import TooFewError, choice_count, cosine_gain, distinct_texts, r_precision
from tiny import random, unit_vectors

AXES = torch.eye(4)
PAIR = torch.tensor([0, 1])


def flat(*angles: float) -> Tensor:
    """Unit vectors in the plane, by their angles in degrees."""
    radians = torch.tensor(angles).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


# --- cosine gain ---


def test_the_gain_of_a_case_worked_by_hand() -> None:
    """Own cosines 0.6 and 1; those with the other two prompts 0.8 and 0, 0 and 0."""
    images = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = cosine_gain(images, AXES[:3], torch.tensor([0, 2]))
    assert found.value == pytest.approx(((0.6 - 0.4) + (1 - 0)) / 2)
    assert (found.low, found.high, found.n) == (pytest.approx(0.2), pytest.approx(1.0), 2)


def test_the_gain_is_what_is_left_above_shuffled_prompts() -> None:
    images, texts, owner = unit_vectors(12), unit_vectors(4, seed=1), torch.arange(12) % 4
    shuffled = []
    for seed in range(4000):
        step = torch.randint(1, 4, (12,), generator=torch.Generator().manual_seed(seed))
        shuffled.append((images * texts[(owner + step) % 4]).sum(1).mean())
    own = (images * texts[owner]).sum(1).mean()
    assert cosine_gain(images, texts, owner).value == pytest.approx(float(own - torch.stack(shuffled).mean()), abs=0.01)


def test_images_that_ignore_their_prompts_gain_nothing() -> None:
    one = unit_vectors(1).expand(40, -1)
    found = cosine_gain(one, unit_vectors(40, seed=1), torch.arange(40))
    assert found.value == pytest.approx(0, abs=1e-6)
    assert found.low < 0 < found.high


def test_a_gap_between_images_and_texts_changes_nothing() -> None:
    """What all texts have in common is in the own cosine and in the others alike."""
    images, texts, gap = random(10, 8), random(5, 8, seed=1), random(1, 8, seed=2)
    owner = torch.arange(10) % 5
    assert cosine_gain(images, texts + gap, owner).value == pytest.approx(cosine_gain(images, texts, owner).value)


# --- R-precision ---


def by_hypergeometric(lower: int, others: int, drawn: int) -> float:
    return comb(lower, drawn) / comb(others, drawn)


@given(st.integers(3, 40), st.integers(2, 40), st.integers(0, 10**6))
def test_r_precision_is_the_hypergeometric_chance(p: int, choices: int, seed: int) -> None:
    images, texts, owner = unit_vectors(6, seed=seed), unit_vectors(p, seed=seed + 1), torch.arange(6) % p
    cosines = images.double() @ texts.double().T
    expected = [
        by_hypergeometric(int((row < row[own]).sum()), p - 1, min(p, choices) - 1)
        for row, own in zip(cosines, owner.tolist(), strict=True)
    ]
    assert r_precision(images, texts, owner, choices).value == pytest.approx(sum(expected) / 6, abs=1e-12)


def test_r_precision_is_what_drawing_prompts_would_give() -> None:
    images, texts, owner = unit_vectors(5), unit_vectors(9, seed=1), torch.arange(5)
    cosines = images @ texts.T
    wins = 0
    for seed in range(3000):
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        for i in range(5):
            drawn = order[order != i][:3]
            wins += bool((cosines[i, drawn] < cosines[i, i]).all())
    assert r_precision(images, texts, owner, choices=4).value == pytest.approx(wins / 15000, abs=0.015)


def test_images_of_their_own_prompts_are_always_right() -> None:
    texts = unit_vectors(50)
    found = r_precision(texts.repeat(2, 1), texts, torch.arange(50).repeat(2))
    assert (found.value, found.low, found.high, found.n) == (1, 1, 1, 100)


def test_images_that_have_nothing_to_do_with_prompts_are_right_once_in_30_times() -> None:
    found = r_precision(unit_vectors(3000, 16), unit_vectors(100, 16, seed=1), torch.arange(3000) % 100)
    assert found.low < 1 / 30 < found.high


def test_with_all_prompts_to_choose_among_only_the_closest_counts() -> None:
    images, texts = flat(10, 50, 80), flat(0, 60, 90)
    assert r_precision(images, texts, torch.arange(3)).value == 1
    assert r_precision(images, texts, torch.tensor([0, 1, 1])).value == pytest.approx(2 / 3)


def test_a_tie_is_lost() -> None:
    """An image as close to another prompt as to its own has not been told apart."""
    images = F.normalize(torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]), dim=1)
    assert r_precision(images, AXES[:2], PAIR).value == 0.5


# --- prompts ---


def test_two_prompts_are_enough() -> None:
    images, texts = flat(5, 85), flat(0, 90)
    assert r_precision(images, texts, PAIR).value == 1
    gap = float(torch.cos(torch.tensor(5.0).deg2rad()) - torch.sin(torch.tensor(5.0).deg2rad()))
    assert cosine_gain(images, texts, PAIR).value == pytest.approx(gap)


@pytest.mark.parametrize("measure", [cosine_gain, r_precision])
def test_one_prompt_is_too_few(measure: object) -> None:
    with pytest.raises(TooFewError, match="at least 2 different prompts, but there are 1"):
        measure(flat(0, 1), flat(0), torch.tensor([0, 0]))  # type: ignore[operator]
    with pytest.raises(TooFewError):
        measure(flat(0, 1), flat(30, 30), PAIR)  # type: ignore[operator]
    with pytest.raises(TooFewError):
        measure(flat(0, 1), flat(0, 90), torch.tensor([0, 0]))  # type: ignore[operator]


def test_the_same_prompt_twice_is_no_wrong_answer_to_itself() -> None:
    images, texts = flat(0, 90, 0), flat(0, 90)
    twice, owner = flat(0, 90, 0), torch.tensor([0, 1, 2])
    for measure in (cosine_gain, r_precision):
        assert measure(images, twice, owner) == measure(images, texts, torch.tensor([0, 1, 0]))


def test_prompts_that_differ_by_rounding_only_are_one() -> None:
    texts = unit_vectors(3, 512)
    repeated = torch.cat([texts, texts + 1e-7 * random(3, 512)])
    kept, index = distinct_texts(repeated)
    assert torch.equal(kept, texts)
    assert index.tolist() == [0, 1, 2, 0, 1, 2]


def test_prompts_that_differ_a_little_stay_two() -> None:
    assert len(distinct_texts(flat(0, 0.01))[0]) == 2


def test_prompts_that_nothing_was_sampled_from_are_still_wrong_answers() -> None:
    images, texts = flat(40, 90), flat(0, 90, 41)
    assert r_precision(images, texts, PAIR).value == 0.5


def test_there_are_30_choices_or_as_many_as_there_are_prompts() -> None:
    assert [choice_count(p) for p in (2, 29, 30, 500)] == [2, 29, 30, 30]
    assert choice_count(8, choices=5) == 5
    with pytest.raises(TooFewError):
        choice_count(1)


@pytest.mark.parametrize("measure", [cosine_gain, r_precision])
def test_images_of_one_prompt_are_drawn_together(measure: object) -> None:
    """Ten equal images of each prompt know no more than one of each."""
    images, texts, owner = unit_vectors(12), unit_vectors(12, seed=1), torch.arange(12)
    once = measure(images, texts, owner)  # type: ignore[operator]
    tenfold = measure(images.repeat(10, 1), texts, owner.repeat(10))  # type: ignore[operator]
    assert (tenfold.value, tenfold.low, tenfold.high) == pytest.approx((once.value, once.low, once.high))


def test_the_range_is_the_same_for_a_seed() -> None:
    images, texts, owner = unit_vectors(12), unit_vectors(12, seed=1), torch.arange(12)
    assert cosine_gain(images, texts, owner, seed=1) == cosine_gain(images, texts, owner, seed=1)
    assert cosine_gain(images, texts, owner, seed=1) != cosine_gain(images, texts, owner, seed=2)
