"""The contract of captionless.training.feed: the order of the images, and inputs that keep their place."""

from __future__ import annotations

import pytest
import torch

import tiny
from captionless.training.dataset import Examples
from captionless.training.feed import Feed, batch_indices


def stream(n: int, count: int, seed: int = 0, batch: int = 4) -> list[int]:
    parts = [batch_indices(n, range(first, first + batch), seed) for first in range(0, count, batch)]
    return torch.cat(parts).tolist()


@pytest.mark.parametrize("n", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_every_image_is_seen_once_before_any_is_seen_again(n: int, batch: int) -> None:
    order = stream(n, 640, batch=batch)
    assert len(order) == 640
    for epoch in range(len(order) // n):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides_and_batches_do_not_change() -> None:
    order = stream(20, 80)
    assert len({tuple(order[i : i + 20]) for i in range(0, 80, 20)}) == 4
    assert stream(20, 80, batch=16) == order
    assert stream(20, 80, seed=1) != order


@pytest.mark.parametrize("low_res", [False, True])
def test_the_inputs_are_the_images_at_the_positions_in_tensors_that_keep_their_place(low_res: bool) -> None:
    pixels = (256 * tiny.uniform(10, 3, 8, 8)).byte().contiguous(memory_format=torch.channels_last)
    examples = Examples(pixels, tiny.unit_vectors(10), low_res=pixels[..., ::2, ::2] if low_res else None)
    feed = Feed(examples, 6, torch.device("cpu"))
    places = (feed.pixels.data_ptr(), feed.conditions.data_ptr())
    for first in (0, 6, 12):
        positions = range(first, first + 6)
        feed.load(positions, seed=0)
        index = batch_indices(10, positions, 0)
        assert torch.equal(feed.pixels, pixels[index])
        assert torch.equal(feed.conditions, examples.conditions[index])
        assert (feed.low_res is not None) == low_res
        if feed.low_res is not None:
            assert torch.equal(feed.low_res, pixels[index][..., ::2, ::2])
    assert places == (feed.pixels.data_ptr(), feed.conditions.data_ptr())


def test_where_crops_are_cut_the_larger_images_are_fed_instead_of_both_sizes() -> None:
    source = (256 * tiny.uniform(10, 3, 12, 12)).byte()
    examples = Examples(source[..., :8, :8], tiny.unit_vectors(10), low_res=source[..., :4, :4], source=source)
    feed = Feed(examples, 6, torch.device("cpu"))
    feed.load(range(6), seed=0)
    index = batch_indices(10, range(6), 0)
    assert torch.equal(feed.pixels, source[index])
    assert torch.equal(feed.conditions, examples.conditions[index])
    assert feed.low_res is None
