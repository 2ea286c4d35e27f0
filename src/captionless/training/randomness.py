"""Draw the random numbers of training images, keyed by the seed and the image's position in the stream of images.

A position counts the images that training has seen before, repetitions included. Nothing that is drawn for an image
depends on the other images of its batch, on the process or on earlier steps. A step therefore computes the same loss on
any number of processes and micro-batches, and a resumed run needs no saved generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
"""The largest 32-bit word. Words are held in int64 tensors, because few operators accept unsigned integers."""


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four 32-bit words of the generator Philox4x32-10 for each counter.

    The generator is a function: it has no state, and every counter gives independent words (Salmon et al., "Parallel
    random numbers: as easy as 1, 2, 3", SC 2011, section 3.3). Its integers are the same on every device.

    Args:
        counter: four int64 tensors of one shape, of 32-bit words; the last may be the high bits of the third.
        key: two 32-bit words.
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        # Products wrap at 64 bits, which leaves both of their words intact. The low words are masked when they are
        # multiplied next, or at the end.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(WORD)
        c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(WORD)
        c1, c3 = p1, p0
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1 & WORD, c2, c3 & WORD


def uniform(words: Tensor) -> Tensor:
    """Convert 32-bit words to uniform numbers in [0, 1), float32, of the same shape."""
    return (words >> 8).float() * 2.0**-24


def normal(words: Tensor) -> Tensor:
    """Convert 32-bit words, (n, an even number), to standard normal numbers, float32, of the same shape.

    Each pair of words gives a pair of normal numbers (Box & Muller, "A note on the generation of random normal
    deviates", 1958).
    """
    first, second = words.reshape(len(words), -1, 2).unbind(2)
    radius = (first + 1).float().mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = second.float().mul_(2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2).flatten(1)


@dataclass(frozen=True)
class Stream:
    """The random numbers of the images at n positions of the stream.

    Args:
        seed: the seed of the run, in [0, 2**63).
        positions: the images' positions, int64 (n,), on the device that draws the numbers.
    """

    seed: int
    positions: Tensor

    def words(self, count: int, purpose: int = 0) -> Tensor:
        """Return ``count`` 32-bit words for each image, int64 (n, count); each purpose has independent words."""
        n, blocks, device = len(self.positions), math.ceil(count / 4), self.positions.device
        position = self.positions[:, None].expand(n, blocks)
        counter = (
            torch.arange(blocks, device=device).expand(n, blocks),
            torch.full((n, blocks), purpose, device=device),
            position & WORD,
            position >> 32,
        )
        words = philox(counter, (self.seed & WORD, self.seed >> 32))
        return torch.stack(words, dim=2).flatten(1)[:, :count]

    def bytes(self, count: int, purpose: int) -> Tensor:
        """Return ``count`` random bytes for each image, uint8 (n, count), sixteen from each call of the generator."""
        words = self.words(math.ceil(count / 4), purpose).to(torch.int32).contiguous()
        return words.view(torch.uint8)[:, :count]


def keyed_generator(seed: int, purpose: int, number: int) -> torch.Generator:
    """Return a generator on the CPU for random orders, which depends only on seed, purpose and number."""
    # Large odd factors spread neighbouring triples over the seeds; PyTorch uses only 32 bits of a seed.
    mixed = seed * 0x9E3779B97F4A7C15 + (purpose + 1) * 0xC2B2AE3D27D4EB4F + number * 0x165667B19E3779F9
    return torch.Generator().manual_seed(mixed % 2**32)
