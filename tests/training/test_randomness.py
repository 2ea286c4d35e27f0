"""The contract of captionless.training.randomness: Philox, and random numbers keyed by seed, position and purpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captionless.training.randomness import Stream, keyed_generator, normal, philox, uniform

ALL = 0xFFFFFFFF


def words(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    return [int(word) for word in philox([torch.tensor(word) for word in counter], key)]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ((ALL, ALL, ALL, ALL), (ALL, ALL), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_the_words_are_those_that_its_authors_publish(
    counter: tuple[int, ...], key: tuple[int, int], expected: list[int]
) -> None:
    """The known answers of Random123 (its file ``kat_vectors``) for philox4x32 with 10 rounds."""
    assert words(counter, key) == expected


def test_many_counters_at_once_give_the_words_of_each() -> None:
    generator = np.random.default_rng(0)
    counters = generator.integers(0, 2**32, (4, 50))
    together = torch.stack(philox([torch.from_numpy(row) for row in counters], (1, 2)))
    for at in range(50):
        assert together[:, at].tolist() == words(tuple(int(word) for word in counters[:, at]), (1, 2))


def test_the_numbers_of_an_image_depend_on_seed_position_and_purpose_alone() -> None:
    positions = torch.tensor([0, 1, 2**20, 2**32, 2**32 + 1, 2**40])
    together = Stream(0, positions).words(9)
    for row, position in zip(together, positions, strict=True):
        assert torch.equal(row, Stream(0, position.reshape(1)).words(9)[0])
    streams = [Stream(seed, positions).words(9, purpose) for seed in (0, 1, 2**32, 2**62) for purpose in (0, 1, 2)]
    assert len({tuple(row) for stream in streams for row in stream.tolist()}) == 4 * 3 * len(positions)


def test_a_longer_draw_begins_like_a_shorter_one() -> None:
    stream = Stream(3, torch.arange(5))
    assert torch.equal(stream.words(30)[:, :7], stream.words(7))


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    numbers = uniform(Stream(0, torch.arange(100)).words(1000)).flatten()
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    counts = torch.histc(numbers, 100, 0, 1)  # 1,000 are expected in each bin, with a deviation of 31
    assert (counts - 1000).abs().max() < 150
    assert uniform(torch.tensor([0, ALL])).tolist() == [0, 1 - 2**-24]


def test_normal_numbers_are_normally_distributed_and_independent_of_each_other() -> None:
    numbers = normal(Stream(1, torch.arange(200)).words(2000))
    ordered = numbers.flatten().sort().values.double()
    shares = torch.special.ndtr(ordered)
    distance = (shares - (torch.arange(len(ordered)) + 0.5) / len(ordered)).abs().max()
    assert distance < 1.95 / len(ordered) ** 0.5  # Kolmogorov-Smirnov, at a level of 0.001
    assert ordered.abs().max() > 4
    among = numbers[:, :8].T
    assert (torch.corrcoef(among) - torch.eye(8)).abs().max() < 0.3
    assert (numbers[:, 0::2] * numbers[:, 1::2]).mean().abs() < 0.01
    assert (numbers[:-1] * numbers[1:]).mean().abs() < 0.01


def test_the_extreme_words_give_finite_normal_numbers() -> None:
    for first in (0, ALL):
        for second in (0, ALL):
            assert normal(torch.tensor([[first, second]])).isfinite().all()


def test_bytes_are_evenly_distributed() -> None:
    drawn = Stream(0, torch.arange(10)).bytes(25_601, purpose=1)
    assert (drawn.shape, drawn.dtype) == ((10, 25_601), torch.uint8)
    counts = torch.bincount(drawn.flatten().long(), minlength=256)  # 1,000 each, with a deviation of 32
    assert (counts - 1000).abs().max() < 160


def test_random_orders_are_what_they_always_were() -> None:
    """Resumed runs and embedding banks depend on them."""
    keys = [(0, 0, 0), (3, 1, 640), (2**40, 3, 10**9), (0, -1, 2)]
    seeds = [keyed_generator(*key).initial_seed() for key in keys]
    assert seeds == [668265295, 1480210781, 677127996, 1013904370]
