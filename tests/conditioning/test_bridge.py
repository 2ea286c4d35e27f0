"""The contract of captionless.conditioning.bridge: from text vectors to conditions."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from captionless.conditioning.bridge import (
    FEWEST,
    LARGE,
    LARGEST_SHARE,
    BridgeData,
    Neighbourhood,
    largest_share,
    nearest,
    shift_by_means,
    to_condition,
)
from captionless.config.sampling import BRIDGES, Bridge, SamplingConfig
from captionless.errors import CaptionlessError
from tiny import random, unit_vectors

TEXT, BANK = unit_vectors(3, seed=1), unit_vectors(200, seed=2)
DATA = BridgeData(BANK, text_mean=unit_vectors(9, seed=4).mean(0))
NONE, MEAN = SamplingConfig(bridge="none"), SamplingConfig(bridge="mean")


def perplexity(weights: Tensor) -> Tensor:
    return torch.special.entr(weights.double()).sum(1).exp()


def dense(found: Neighbourhood) -> Tensor:
    """The weights of all images of the bank, (n, m)."""
    return torch.zeros(len(found.indices), len(found.bank)).scatter(1, found.indices, found.weights)


def two_kinds() -> tuple[Tensor, Tensor, Tensor]:
    """Two tight clusters, their centres, and a text far from both that is a little closer to the first."""
    kinds, middle = torch.eye(8)[:2], torch.eye(8)[7:]
    bank = F.normalize(kinds.repeat_interleave(500, 0) + 0.05 * random(1000, 8), dim=1)
    return kinds, bank, F.normalize(middle + 0.28 * kinds[:1] + 0.26 * kinds[1:], dim=1)


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("seeds", [None, [1, 2, 3]])
def test_every_bridge_gives_unit_vectors(bridge: Bridge, seeds: list[int] | None) -> None:
    condition = to_condition(TEXT, DATA, SamplingConfig(bridge=bridge), seeds)
    assert condition.shape == TEXT.shape
    torch.testing.assert_close(condition.norm(dim=1), torch.ones(3))


def test_no_bridge_leaves_the_text_vector() -> None:
    assert torch.equal(to_condition(TEXT, DATA, NONE), TEXT)


# --- the neighbourhood ---


def test_weights_are_a_softmax_of_cosines_in_standard_deviations() -> None:
    """With a bandwidth of 0.15, where neither the effective number of images nor the largest weight is limited."""
    found = nearest(TEXT[:1], BANK, neighbours=100, mean_shift_iterations=0)
    cosines = TEXT[:1] @ BANK.T
    expected = torch.softmax(cosines / cosines.std(1, correction=0, keepdim=True) / 0.15, dim=1)
    assert expected.max() < LARGEST_SHARE * (LARGE / 200) ** 0.5
    torch.testing.assert_close(dense(found), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.centre(), F.normalize(expected @ BANK, dim=1), atol=1e-5, rtol=0)


@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 300),
    neighbours=st.integers(1, 40),
    iterations=st.integers(0, 3),
    spread=st.floats(0.01, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_neighbourhoods_keep_their_bounds(
    seed: int, size: int, neighbours: int, iterations: int, spread: float
) -> None:
    """From 1 image on, in wide cones and narrow ones: weights sum to 1, none is too large, and the effective number
    is not.
    """
    bank = F.normalize(unit_vectors(1, seed=seed) + spread * unit_vectors(size, seed=seed + 1), dim=1)
    found = nearest(unit_vectors(2, seed=seed + 2), bank, neighbours, iterations)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(2))
    assert (found.weights >= 0).all()
    limit = max(min(0.5, LARGEST_SHARE * max(1, (LARGE / size) ** 0.5)), 1 / min(size, neighbours))
    assert found.weights.max() <= limit + 1e-5
    unlimited = found.weights.max(1).values < limit - 1e-5
    assert (perplexity(found.weights)[unlimited] < 1.01 * neighbours).all()


def test_a_weight_above_the_limit_fills_up_the_others_in_proportion() -> None:
    """Scores of one image far above the rest: it keeps the largest share, and the order and ratios of the others."""
    text = F.normalize(torch.tensor([[1.0, 0.1, 0.05, 0, 0]]), dim=1)
    bank = torch.eye(5)[torch.arange(5).repeat_interleave(torch.tensor([1, 10, 10, 20, 59]))]
    weights = dense(nearest(text, bank, mean_shift_iterations=0))[0]
    assert weights[0] == pytest.approx(largest_share(100))
    scores = (text @ bank.T)[0] / (text @ bank.T).std(correction=0) / 0.15
    assert weights[1] / weights[11] == pytest.approx(float((scores[1] - scores[11]).exp()), rel=1e-3)
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(("images", "effective"), [(100, 4), (1000, FEWEST)])
def test_few_matching_images_of_a_large_bank_are_joined_by_the_next(images: int, effective: float) -> None:
    """Four images match a text far better than all others."""
    text = torch.eye(64)[:1]
    like = F.normalize(text + 0.02 * random(4, 64, seed=5), dim=1)
    bank = torch.cat([like, F.normalize(random(images - 4, 64, seed=6), dim=1)])
    found = nearest(text, bank, mean_shift_iterations=0)
    assert set(found.indices[0, :4].tolist()) == {0, 1, 2, 3}
    assert perplexity(found.weights)[0] == pytest.approx(effective, rel=0.02)


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0])
def test_neither_the_width_nor_the_place_of_the_cones_changes_a_neighbourhood(scale: float) -> None:
    """The cosines of an encoder with a narrow cone of images (CLIP's) are those of a wide one, shrunk and shifted."""
    middle = F.one_hot(torch.tensor([512]), 513).float()
    own = F.pad(unit_vectors(200, width=512, seed=3), (0, 1)), F.pad(unit_vectors(3, width=512, seed=4), (0, 1))
    wide, narrow = (nearest(own[1], F.normalize(own[0] + k * middle, dim=1), 32, 0) for k in (0.0, 1 / scale))
    assert torch.equal(wide.indices[:, :20], narrow.indices[:, :20])
    torch.testing.assert_close(wide.weights, narrow.weights, atol=1e-4, rtol=0)


def test_an_image_alone_in_the_bank_is_every_condition() -> None:
    torch.testing.assert_close(nearest(TEXT, BANK[:1]).centre(), BANK[:1].expand(3, -1))


def test_one_neighbour_is_the_closest_image() -> None:
    closest = BANK[(TEXT @ BANK.T).argmax(1)]
    torch.testing.assert_close(nearest(TEXT, BANK, 1, 0).centre(), closest, atol=1e-3, rtol=0)


def test_each_text_is_bridged_alone() -> None:
    torch.testing.assert_close(nearest(TEXT, BANK).centre()[1:2], nearest(TEXT[1:2], BANK).centre())


def test_agreement_is_the_cosine_to_the_mean_of_the_other_images() -> None:
    found = nearest(TEXT, BANK, 7, 0)
    weights = dense(found)
    for image in (*found.indices[0, :3].tolist(), int(weights.argmin())):
        others = weights[0].clone()
        others[image] = 0
        expected = F.normalize(others @ BANK, dim=0) @ BANK[image]
        torch.testing.assert_close(found.agreement()[0, image], expected)


@pytest.mark.parametrize(("images", "share"), [(200, 0.12), (1500, 0.6)])
def test_iterations_search_from_the_text_and_in_large_banks_from_the_other_images(images: int, share: float) -> None:
    bank = F.normalize(random(images, BANK.shape[1], seed=9), dim=1)
    found = nearest(TEXT, bank, 16, 0)
    text, others = (x / x.std(1, correction=0, keepdim=True) for x in (TEXT @ bank.T, found.agreement()))
    scores = (1 - share) * text + share * others
    once = nearest(TEXT, bank, 16, 1)
    assert torch.equal(once.indices[:, :5], scores.topk(5).indices)
    assert not torch.equal(once.indices[:, :5], found.indices[:, :5])


def test_an_image_that_its_fellow_neighbours_do_not_resemble_loses_its_weight() -> None:
    """A lone image is closest to the text, before twelve images that resemble each other."""
    middle, lone = torch.eye(64)[0], torch.eye(64)[1]
    like = F.normalize(middle + 0.04 * random(12, 64, seed=5), dim=1)
    bank = torch.cat([lone[None], like, F.normalize(random(400, 64, seed=6), dim=1)])
    text = F.normalize(0.8 * lone + 0.7 * middle, dim=0)[None]
    first, last = (dense(nearest(text, bank, mean_shift_iterations=k))[0] for k in (0, 4))
    assert first[0] == pytest.approx(LARGEST_SHARE), "the case is no case"
    assert last[0] < 0.1
    assert last[1:13].sum() > 0.8


def test_a_text_between_two_kinds_of_images_moves_to_the_one_that_it_is_closer_to() -> None:
    kinds, bank, text = two_kinds()
    first, last = (nearest(text, bank, 16, k).centre()[0] @ kinds.T for k in (0, 3))
    assert first[1] > 0.12, "the case is no case"
    assert last[1] < 0.06


# --- what each image draws ---


def test_without_variety_every_seed_has_the_centre() -> None:
    found = nearest(TEXT, BANK)
    assert torch.equal(found.draw(0.0, [1, 2, 3]), found.centre())
    assert torch.equal(to_condition(TEXT, DATA, SamplingConfig(variety=0), [1, 2, 3]), to_condition(TEXT, DATA))


def test_full_variety_draws_single_images_as_often_as_they_weigh() -> None:
    weights = torch.tensor([[0.5, 0.3, 0.2]])
    n = 3000
    found = Neighbourhood(torch.eye(4), torch.tensor([[2, 0, 1]]).expand(n, -1), weights.expand(n, -1))
    drawn = found.draw(1.0, range(n))
    torch.testing.assert_close(drawn.max(1).values, torch.ones(n))
    shares = F.one_hot(drawn.argmax(1), 4).float().mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.2, 0.5, 0.0]), atol=0.03, rtol=0)


@pytest.mark.parametrize("variety", [0.1, 0.25, 0.6])
def test_weights_have_the_dirichlet_distributions_mean_and_variance(variety: float) -> None:
    """Seen through unit vectors: the shares of a mixture of orthogonal images are its coordinates, up to length."""
    weights, n = torch.tensor([0.5, 0.3, 0.2]), 4000
    found = Neighbourhood(torch.eye(3), torch.arange(3).expand(n, -1), weights.expand(n, -1))
    drawn = found.draw(variety, range(n))
    shares = drawn / drawn.sum(1, keepdim=True)
    torch.testing.assert_close(shares.mean(0), weights, atol=0.02, rtol=0)
    torch.testing.assert_close(shares.var(0), variety * weights * (1 - weights), atol=0.02, rtol=0)


def test_a_seed_draws_the_same_in_any_batch() -> None:
    config = SamplingConfig(variety=0.5)
    together = to_condition(TEXT, DATA, config, [7, 8, 9])
    torch.testing.assert_close(to_condition(TEXT[1:2], DATA, config, [8]), together[1:2])
    assert not torch.allclose(to_condition(TEXT[1:2], DATA, config, [9]), together[1:2], atol=0.01)


def test_more_variety_makes_the_images_of_a_prompt_differ_more() -> None:
    text = TEXT[:1].expand(16, -1)
    cosines = []
    for variety in (0.0, 0.1, 0.4, 1.0):
        drawn = to_condition(text, DATA, SamplingConfig(variety=variety), range(16))
        cosines.append(float((drawn @ drawn.T).mean()))
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] > 0.999 > cosines[1] > cosines[3] + 0.2


def test_other_bridges_refuse_variety() -> None:
    with pytest.raises(CaptionlessError) as error:
        SamplingConfig(bridge="mean", variety=0.5)
    assert error.value.parameter == "bridge"


# --- the mean ---


def test_the_mean_bridge_moves_texts_from_the_mean_of_words_to_that_of_images() -> None:
    assert DATA.text_mean is not None
    expected = F.normalize(TEXT - DATA.text_mean + BANK.mean(0), dim=1)
    torch.testing.assert_close(to_condition(TEXT, DATA, MEAN), expected)


def test_the_mean_bridge_closes_a_gap_that_is_one_constant_vector() -> None:
    """Pairs of text and image that differ by the same vector: each text finds its image's direction."""
    middle, gap = 0.1 * random(50, 512), random(1, 512, seed=1)
    texts, images = middle - gap, middle + gap
    moved = shift_by_means(texts, texts.mean(0), images.mean(0))
    torch.testing.assert_close(moved, F.normalize(images, dim=1))


def test_where_words_lie_among_images_the_mean_bridge_moves_nothing() -> None:
    torch.testing.assert_close(to_condition(TEXT, replace(DATA, text_mean=BANK.mean(0)), MEAN), TEXT)


def test_a_text_is_shifted_alone() -> None:
    torch.testing.assert_close(to_condition(TEXT, DATA, MEAN)[1:2], to_condition(TEXT[1:2], DATA, MEAN))


def test_without_the_mean_of_words_the_error_says_what_to_do_instead() -> None:
    bridge_data = replace(DATA, text_mean=None)
    with pytest.raises(CaptionlessError, match="Try `bridge=nearest`"):
        to_condition(TEXT, bridge_data, MEAN)
    assert torch.equal(to_condition(TEXT, bridge_data), to_condition(TEXT, DATA))
