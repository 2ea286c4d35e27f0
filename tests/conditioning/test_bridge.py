"""The contract of captionless.conditioning.bridge: from text vector to condition."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from captionless.conditioning.bridge import BridgeData, nearest, shift_by_means, to_condition
from captionless.config.sampling import BRIDGES, Bridge, SamplingConfig
from captionless.errors import CaptionlessError
from tiny import random, unit_vectors

TEXT, BANK = unit_vectors(3, seed=1), unit_vectors(50, seed=2)
DATA = BridgeData(BANK, 0.05, text_mean=unit_vectors(9, seed=4).mean(0))
NONE, MEAN = SamplingConfig(bridge="none"), SamplingConfig(bridge="mean")


@pytest.mark.parametrize("bridge", BRIDGES)
def test_every_bridge_gives_unit_vectors(bridge: Bridge) -> None:
    condition = to_condition(TEXT, DATA, SamplingConfig(bridge=bridge))
    assert condition.shape == TEXT.shape
    torch.testing.assert_close(condition.norm(dim=1), torch.ones(3))


def test_no_bridge_leaves_the_text_vector() -> None:
    assert torch.equal(to_condition(TEXT, DATA, NONE), TEXT)


def test_the_default_is_the_nearest_images() -> None:
    assert torch.equal(to_condition(TEXT, DATA), nearest(TEXT, BANK, 0.05))


def test_a_large_bank_gets_mean_shift_iterations_and_a_small_one_none() -> None:
    """In a small one, the mean would end at single images."""
    bank = unit_vectors(120, seed=5)
    config = SamplingConfig(neighbours=20, mean_shift_iterations=3, mean_shift_minimum=120)
    expected = nearest(TEXT, bank, 0.05, 20, mean_shift_iterations=3)
    assert torch.equal(to_condition(TEXT, replace(DATA, bank=bank), config), expected)
    assert torch.equal(to_condition(TEXT, replace(DATA, bank=bank[1:]), config), nearest(TEXT, bank[1:], 0.05, 20))
    assert not torch.allclose(expected, nearest(TEXT, bank, 0.05, 20), atol=0.01)


def test_without_iterations_a_condition_is_the_softmax_weighted_mean_of_the_nearest_images() -> None:
    for text, condition in zip(TEXT, nearest(TEXT, BANK, 0.05, neighbours=4), strict=True):
        cosines = BANK @ text
        chosen = sorted(range(50), key=lambda i: -float(cosines[i]))[:4]
        weights = torch.softmax(cosines[chosen] / 0.05, 0)
        expected = F.normalize(sum(w * BANK[i] for w, i in zip(weights, chosen, strict=True)), dim=0)  # type: ignore[arg-type]
        torch.testing.assert_close(condition, expected)


def test_a_low_temperature_picks_the_closest_image() -> None:
    closest = BANK[(TEXT @ BANK.T).argmax(1)]
    torch.testing.assert_close(nearest(TEXT, BANK, 1e-4), closest, atol=1e-3, rtol=0)


def test_a_image_alone_in_the_bank_is_every_condition() -> None:
    torch.testing.assert_close(nearest(TEXT, BANK[:1], 0.05), BANK[:1].expand(3, -1))


def test_each_text_is_bridged_alone() -> None:
    torch.testing.assert_close(nearest(TEXT, BANK, 0.05)[1:2], nearest(TEXT[1:2], BANK, 0.05))


def test_each_time_it_goes_from_a_condition_to_the_mean_of_the_images_nearest_to_it() -> None:
    place = TEXT
    for iterations in range(4):
        place = nearest(place, BANK, 0.05, neighbours=7)
        torch.testing.assert_close(nearest(TEXT, BANK, 0.05, neighbours=7, mean_shift_iterations=iterations), place)


def test_a_text_between_two_kinds_of_images_shifts_to_the_one_that_it_is_closer_to() -> None:
    """Two tight clusters; a text far from both, whose first mean is a blend that is like none of the images."""
    kinds, middle = torch.eye(8)[:2], torch.eye(8)[7:]
    bank = F.normalize(kinds.repeat_interleave(20, 0) + 0.05 * random(40, 8), dim=1)
    text = F.normalize(middle + 0.28 * kinds[:1] + 0.27 * kinds[1:], dim=1)
    blend, shifted = (nearest(text, bank, 0.05, mean_shift_iterations=k)[0] @ kinds.T for k in (0, 3))
    assert blend[0] < 0.9, "the case is no case"
    assert shifted[0] > 0.99


# --- the mean ---


def test_the_mean_bridge_moves_texts_from_the_mean_of_words_to_that_of_images() -> None:
    assert DATA.text_mean is not None
    expected = F.normalize(TEXT - DATA.text_mean + BANK.mean(0), dim=1)
    torch.testing.assert_close(to_condition(TEXT, DATA, MEAN), expected)


def test_the_mean_bridge_closes_a_gap_that_is_one_constant_vector() -> None:
    """Pairs of text and image that differ by the same vector: each text finds its image's direction."""
    middle, gap = 0.1 * random(50, 512), random(1, 512, seed=1)
    texts, pictures = middle - gap, middle + gap
    moved = shift_by_means(texts, texts.mean(0), pictures.mean(0))
    torch.testing.assert_close(moved, F.normalize(pictures, dim=1))


def test_where_words_lie_among_images_the_mean_bridge_moves_nothing() -> None:
    torch.testing.assert_close(to_condition(TEXT, replace(DATA, text_mean=BANK.mean(0)), MEAN), TEXT)


def test_a_text_is_shifted_alone() -> None:
    torch.testing.assert_close(to_condition(TEXT, DATA, MEAN)[1:2], to_condition(TEXT[1:2], DATA, MEAN))


def test_a_model_that_does_not_know_the_mean_of_its_words_says_what_to_do_instead() -> None:
    bridge_data = replace(DATA, text_mean=None)
    with pytest.raises(CaptionlessError, match="Try `bridge=nearest`"):
        to_condition(TEXT, bridge_data, MEAN)
    assert torch.equal(to_condition(TEXT, bridge_data), to_condition(TEXT, DATA))
