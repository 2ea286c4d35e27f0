"""The contract of captionless.conditioning.bridge: from text vector to condition."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from captionless.conditioning.bridge import DENSE, SETTLE, BridgeData, mean_shift, nearest, to_condition
from captionless.config.sampling import BRIDGES
from captionless.errors import CaptionlessError
from tiny import random, unit_vectors

TEXT, BANK = unit_vectors(3, seed=1), unit_vectors(50, seed=2)
SHORE = BridgeData(BANK, 0.05, text_mean=unit_vectors(9, seed=4).mean(0))


@pytest.mark.parametrize("bridge", BRIDGES)
def test_every_bridge_gives_unit_vectors(bridge: str) -> None:
    condition = to_condition(TEXT, SHORE, bridge)
    assert condition.shape == TEXT.shape
    torch.testing.assert_close(condition.norm(dim=1), torch.ones(3))


def test_no_bridge_leaves_the_text_vector() -> None:
    assert torch.equal(to_condition(TEXT, SHORE, "none"), TEXT)


def test_the_default_is_the_nearest_images() -> None:
    assert torch.equal(to_condition(TEXT, SHORE), nearest(TEXT, BANK, 0.05))


def test_among_many_images_it_is_settled_and_among_few_not() -> None:
    """Among few it would settle on single pictures."""
    many = unit_vectors(DENSE, seed=5)
    settled = nearest(TEXT, many, 0.05, settle=SETTLE)
    assert torch.equal(to_condition(TEXT, replace(SHORE, bank=many)), settled)
    few = many[1:]
    assert torch.equal(to_condition(TEXT, replace(SHORE, bank=few)), nearest(TEXT, few, 0.05))
    assert not torch.allclose(settled, nearest(TEXT, many, 0.05), atol=0.01)


def test_unsettled_a_condition_is_the_softmax_weighted_mean_of_the_nearest_images() -> None:
    for text, condition in zip(TEXT, nearest(TEXT, BANK, 0.05, neighbours=4, settle=0), strict=True):
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
    for settle in range(4):
        place = nearest(place, BANK, 0.05, neighbours=7, settle=0)
        torch.testing.assert_close(nearest(TEXT, BANK, 0.05, neighbours=7, settle=settle), place)


def test_a_text_between_two_kinds_of_images_settles_on_the_one_that_it_is_closer_to() -> None:
    """Two tight clusters; a text far from both, whose first mean is a blend that is like none of the pictures."""
    kinds, middle = torch.eye(8)[:2], torch.eye(8)[7:]
    bank = F.normalize(kinds.repeat_interleave(20, 0) + 0.05 * random(40, 8), dim=1)
    text = F.normalize(middle + 0.28 * kinds[:1] + 0.27 * kinds[1:], dim=1)
    blend, settled = (nearest(text, bank, 0.05, settle=settle)[0] @ kinds.T for settle in (0, 3))
    assert blend[0] < 0.9, "the case is no case"
    assert settled[0] > 0.99


def test_an_unknown_bridge_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(CaptionlessError, match="`bridge` must be one of nearest"):
        to_condition(TEXT, SHORE, "bifrost")


# --- the mean ---


def test_the_mean_bridge_moves_texts_from_the_mean_of_words_to_that_of_images() -> None:
    assert SHORE.text_mean is not None
    expected = F.normalize(TEXT - SHORE.text_mean + BANK.mean(0), dim=1)
    torch.testing.assert_close(to_condition(TEXT, SHORE, "mean"), expected)


def test_the_mean_bridge_closes_a_gap_that_is_one_constant_vector() -> None:
    """Pairs of text and picture that differ by the same vector: each text finds its picture's direction."""
    middle, gap = 0.1 * random(50, 512), random(1, 512, seed=1)
    texts, pictures = middle - gap, middle + gap
    moved = mean_shift(texts, texts.mean(0), pictures.mean(0))
    torch.testing.assert_close(moved, F.normalize(pictures, dim=1))


def test_where_words_lie_among_images_the_mean_bridge_moves_nothing() -> None:
    torch.testing.assert_close(to_condition(TEXT, replace(SHORE, text_mean=BANK.mean(0)), "mean"), TEXT)


def test_a_text_is_shifted_alone() -> None:
    torch.testing.assert_close(to_condition(TEXT, SHORE, "mean")[1:2], to_condition(TEXT[1:2], SHORE, "mean"))


def test_a_model_that_does_not_know_the_mean_of_its_words_says_what_to_do_instead() -> None:
    bridge_data = replace(SHORE, text_mean=None)
    with pytest.raises(CaptionlessError, match=r"--bridge mean needs .* Choose --bridge nearest, or train on with --"):
        to_condition(TEXT, bridge_data, "mean")
    assert torch.equal(to_condition(TEXT, bridge_data), to_condition(TEXT, SHORE))
