"""The contract of captionless.evaluation.metrics.memorisation: telling copies from generated images."""

import math
from statistics import median_low

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captionless.evaluation.metrics import TooFewError, memorised, nearest
from captionless.evaluation.metrics.memorisation import RATIO
from tiny import random, uniform

IMAGES = random(40, 1, 6, 6)
TRAINING, MIRRORED = IMAGES.flatten(1), IMAGES.flip(3).flatten(1)


def line(*positions: float) -> Tensor:
    return torch.tensor(positions).unsqueeze(1)


# --- the criterion ---


def test_a_case_worked_by_hand() -> None:
    """Nearest of 12 is 10, 2 away, then 20, 8 away; of 24 it is 20, 4 away, then 30, 6 away."""
    found = nearest(line(12, 24), line(0, 10, 20, 30))
    assert found.index.tolist() == [1, 2]
    assert found.distance.tolist() == [2, 4]
    assert found.ratio.tolist() == pytest.approx([2 / 8, 4 / 6])
    assert memorised(found).tolist() == [True, False]


def test_an_image_exactly_a_third_as_far_is_not_memorised() -> None:
    found = nearest(line(12.5, 12.4), line(0, 10, 20, 30))
    assert found.ratio.tolist() == pytest.approx([RATIO, 2.4 / 7.6])
    assert memorised(found).tolist() == [False, True]


@settings(max_examples=50)
@given(st.integers(3, 25), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_it_is_the_definition_written_out(m: int, d: int, mirror: bool, seed: int) -> None:
    training, samples = random(m, d, seed=seed).double(), random(8, d, seed=seed + 1).double()

    def apart(x: Tensor, y: Tensor) -> float:
        return min(float((x - y).norm()), float((x - y.flip(0)).norm()) if mirror else math.inf)

    between = [[apart(a, b) for b in training] for a in training]
    for i in range(m):
        between[i][i] = math.inf
    near = median_low([sorted(row)[min(5, m - 1) - 1] for row in between]) / 3
    found = nearest(samples, training, training.flip(1) if mirror else None)
    for sample, first, distance, ratio in zip(samples, found.index, found.distance, found.ratio, strict=True):
        every = [apart(sample, b) for b in training]
        one = min(range(m), key=every.__getitem__)
        second = min(every[b] for b in range(m) if b != one and between[one][b] >= near)
        assert int(first) == one
        assert float(distance) == pytest.approx(every[one], rel=1e-4, abs=1e-5)
        assert float(ratio) == pytest.approx(every[one] / second, rel=1e-3, abs=1e-5)


def test_copies_with_a_little_noise_are_found_and_new_images_are_not() -> None:
    copies = TRAINING[[7, 30]] + 0.05 * random(2, 36, seed=1)
    found = nearest(torch.cat([copies, random(50, 36, seed=2)]), TRAINING)
    assert found.index[:2].tolist() == [7, 30]
    assert memorised(found).tolist() == [True] * 2 + [False] * 50


def test_an_exact_copy_has_distance_and_ratio_0() -> None:
    found = nearest(TRAINING, TRAINING)
    assert torch.equal(found.index, torch.arange(40))
    assert torch.equal(found.distance, torch.zeros(40))
    assert torch.equal(found.ratio, torch.zeros(40))


def test_the_mean_of_two_images_is_a_copy_of_neither() -> None:
    assert not memorised(nearest((TRAINING[:20] + TRAINING[20:]) / 2, TRAINING)).any()


# --- mirror images ---


def test_a_mirrored_copy_is_found_where_training_mirrored() -> None:
    found = nearest(MIRRORED[3:6], TRAINING, MIRRORED)
    assert found.index.tolist() == [3, 4, 5]
    assert torch.equal(found.distance, torch.zeros(3))
    assert memorised(found).all()


def test_a_mirrored_copy_is_a_new_image_where_training_never_mirrored() -> None:
    assert not memorised(nearest(MIRRORED[3:6], TRAINING)).any()


def test_an_image_that_is_its_own_mirror_image_is_no_rival_to_itself() -> None:
    symmetric = (TRAINING + MIRRORED)[:20]
    found = nearest(symmetric[:5] + 0.01, symmetric, symmetric.clone())
    assert memorised(found).all()


# --- near-duplicates ---


def test_a_copied_image_is_found_though_the_folder_has_it_twice() -> None:
    for twin in (TRAINING[:1], TRAINING[:1] + 0.02 * random(1, 36, seed=1)):
        found = nearest(TRAINING[:1] + 0.01, torch.cat([TRAINING, twin]))
        assert memorised(found).all()
        assert found.index.item() in (0, 40)


def test_a_copied_image_is_found_though_the_folder_has_its_mirror_image() -> None:
    both = torch.cat([TRAINING, MIRRORED[:1]])
    assert memorised(nearest(TRAINING[:1] + 0.01, both, torch.cat([MIRRORED, TRAINING[:1]]))).all()


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_are_found_in_a_folder_that_holds_everything_several_times(copies: int) -> None:
    found = nearest(TRAINING[:8] + 0.01, TRAINING.repeat(copies, 1))
    assert memorised(found).all()
    assert not memorised(nearest(random(30, 36, seed=5), TRAINING.repeat(copies, 1))).any()


def test_copies_are_found_in_a_folder_that_holds_every_image_and_its_mirror_image() -> None:
    training, mirrored = torch.cat([TRAINING, MIRRORED]), torch.cat([MIRRORED, TRAINING])
    assert memorised(nearest(TRAINING[:8] + 0.01, training, mirrored)).all()


def test_a_neighbour_as_far_as_neighbours_are_is_no_duplicate() -> None:
    """10 and 12 differ as 0 and 2 do: an image between them is new, however far the rest."""
    found = nearest(line(11), line(0, 2, 4, 6, 8, 10, 12, 14))
    assert found.ratio.item() == pytest.approx(1)


# --- size, and how the work is cut up ---


def test_blocks_change_nothing() -> None:
    samples = torch.cat([random(30, 36, seed=1), TRAINING[:3] + 0.01])
    whole = nearest(samples, TRAINING, MIRRORED)
    parts = nearest(samples, TRAINING, MIRRORED, block=7)
    assert torch.equal(parts.index, whole.index)
    torch.testing.assert_close(parts.distance, whole.distance)
    torch.testing.assert_close(parts.ratio, whole.ratio, rtol=1e-4, atol=1e-5)


def test_vectors_far_from_the_origin_keep_their_small_differences() -> None:
    """Features share a large mean, next to which float32 would lose what tells images apart."""
    offset = 3000.0
    samples = torch.cat([TRAINING[:3] + 0.05, random(30, 36, seed=1)])
    near, far = nearest(samples, TRAINING), nearest(samples + offset, TRAINING + offset)
    assert torch.equal(near.index, far.index)
    torch.testing.assert_close(near.ratio, far.ratio, rtol=1e-2, atol=1e-3)


def test_whole_numbers_will_do_as_pixels() -> None:
    pixels = (uniform(30, 48) * 255).byte()
    found = nearest(pixels[4:6], pixels, pixels.flip(1))
    assert found.index.tolist() == [4, 5]
    assert memorised(found).all()


# --- too few ---


@pytest.mark.parametrize("m", [0, 1, 2])
def test_two_training_images_say_nothing(m: int) -> None:
    with pytest.raises(TooFewError, match=f"there are {m} training images.*at least 3"):
        nearest(random(4, 36), TRAINING[:m])


def test_three_do() -> None:
    assert memorised(nearest(TRAINING[:1] + 0.01, TRAINING[:3])).all()


def test_a_folder_of_one_image_over_and_over_is_too_few() -> None:
    with pytest.raises(TooFewError, match="most of the 12 training images are copies"):
        nearest(random(4, 36), TRAINING[:1].repeat(12, 1))


def test_where_every_other_image_is_a_near_duplicate_there_is_no_second() -> None:
    """Only where "mirrored" vectors are not those of mirror images: here all of them are the first image's."""
    with pytest.raises(TooFewError, match="nearly the same"):
        nearest(TRAINING[:1] + 0.01, TRAINING[:3], TRAINING[:1].repeat(3, 1))
