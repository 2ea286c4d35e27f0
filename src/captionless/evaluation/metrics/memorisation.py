"""Whether a model paints anew or repeats its training pictures.

A painted picture counts as memorised when its nearest training picture is less than a third as far as the second
nearest (arXiv:2310.02664): a new picture lies about as far from many. Two things would spoil that:

- A folder holds near-duplicates (bursts, crops), and of a copied pair both are near. Those of the nearest are
  left out when looking for the second.
- Training may mirror pictures. A training picture is as near as it or its mirror image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import Estimate, TooFewError, difference_low

RATIO = 1 / 3
"""Nearest distance over second nearest below which a picture counts as memorised (arXiv:2310.02664)."""

SAME = 1 / 3
"""Near-duplicates are closer than this share of the typical distance of neighbours: the same third, among real ones."""

NEIGHBOUR = 5
"""Which neighbour's distance is typical. Not the first: in a folder that holds most pictures twice, or each beside its
mirror image, it would be 0. The fifth stands up to five copies of everything."""

ENOUGH = 256
"""Training pictures whose neighbours tell the typical distance; the median of so many is known to a few percent."""

BLOCK = 1024
"""Training pictures taken at a time: 50 MB for 64 x 64 colour pixels."""


@dataclass(frozen=True)
class Neighbours:
    """Painted pictures' nearest training pictures.

    Args:
        index: of the nearest training picture, (n,).
        distance: Euclidean distance to it or its mirror image, whichever is nearer, (n,).
        ratio: that over the distance to the second nearest, near-duplicates of the first left out, (n,), 0 to 1.
    """

    index: Tensor
    distance: Tensor
    ratio: Tensor


@torch.no_grad()
def nearest(samples: Tensor, training: Tensor, mirrored: Tensor | None = None, *, chunk: int = 256) -> Neighbours:
    """Find the nearest training picture of each sample, and how much nearer it is than the second.

    Beside what it is given, it keeps a few copies of ``chunk + BLOCK`` vectors and of ``chunk`` rows of m distances.

    Args:
        samples: painted pictures as vectors, (n, d): pixels, or features.
        training: the training pictures likewise, (m, d).
        mirrored: mirror images of the training pictures in the same order, (m, d); None where training never mirrored.
        chunk: samples taken at a time.

    Raises:
        TooFewError: fewer than 3 training pictures that are not near-duplicates of each other.
    """
    if len(training) < 3:
        raise _few(f"there are {len(training)} training pictures")
    bank = _Bank(training, mirrored, training.mean(0, dtype=torch.float32))
    near = SAME * _typical_distance(bank, chunk)
    if near == 0:
        raise _few(f"most of the {len(training)} training pictures are copies of each other")
    parts = [_neighbours(part, bank, near) for part in torch.split(samples, chunk)]
    first, distance, second = (torch.cat(found) for found in zip(*parts, strict=True))
    if second.isinf().any():
        raise _few(f"the {len(training)} training pictures are nearly the same")
    return Neighbours(first, distance, (distance / second).clamp(max=1))


def memorised(neighbours: Neighbours) -> Tensor:
    """Return for each painted picture whether it counts as memorised, (n,), bool."""
    return torch.lt(neighbours.ratio, RATIO)


@dataclass(frozen=True)
class _Bank:
    """Training pictures (m, d), their mirror images, and their mean (d,)."""

    training: Tensor
    mirrored: Tensor | None
    mean: Tensor

    def distances(self, x: Tensor) -> Tensor:
        """Return how far each picture, or its mirror image if nearer, is from each of ``x`` (n, d): (n, m), float32.

        Through a matrix product, which is fast. About the mean of the pictures its rounding is some 0.1% of the
        distance of two that have nothing in common, far below what is decided by it.
        """
        x = x.float() - self.mean

        def to(pictures: Tensor) -> Tensor:
            return torch.cat([torch.cdist(x, block.float() - self.mean) for block in torch.split(pictures, BLOCK)], 1)

        return to(self.training) if self.mirrored is None else torch.minimum(to(self.training), to(self.mirrored))

    def distance(self, x: Tensor, index: Tensor) -> Tensor:
        """Return the exact distance of each of ``x`` (n, d) to the picture of its index (n,): (n,), float32."""

        def to(pictures: Tensor) -> Tensor:
            return (x.float() - pictures[index].float()).square().sum(1).sqrt()

        return to(self.training) if self.mirrored is None else torch.minimum(to(self.training), to(self.mirrored))


def _neighbours(samples: Tensor, bank: _Bank, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the index of the nearest, its distance, and that of the second (infinite where there is none), (n,)."""
    far = bank.distances(samples)
    first = far.argmin(1)
    same = bank.distances(bank.training[first]) < near
    same[torch.arange(len(first)), first] = True
    return first, bank.distance(samples, first), far.masked_fill(same, torch.inf).amin(1)


def _typical_distance(bank: _Bank, chunk: int) -> float:
    """Return the median distance of a training picture to its fifth nearest other (the farthest, of fewer than six)."""
    m = len(bank.training)
    found = []
    for rows in torch.split(torch.arange(0, m, -(-m // ENOUGH)), chunk):
        others = bank.distances(bank.training[rows])
        others[torch.arange(len(rows)), rows] = torch.inf
        found.append(others.topk(min(NEIGHBOUR, m - 1), dim=1, largest=False).values[:, -1])
    return float(torch.cat(found).median())


def _few(there_are: str) -> TooFewError:
    return TooFewError(
        f"{there_are}, and finding what was memorised needs at least 3 that differ. Give the whole training folder."
    )


ENOUGH_HELD_OUT = 40
"""Held-out pictures that say what is usual. Beside so many, none of them like a copy, 10 copies among 100 paintings are
beyond chance; beside 20 it takes 18, and beside 3 it takes 57."""

TOLERATED = 0.01
"""With fewer, a share that is surely above this one, and above theirs, counts as memorising too."""


def significantly_above(sampled: Estimate, real: Estimate | None) -> bool:
    """Tell whether a share of memorised paintings is beyond what chance explains.

    Args:
        painted: that share.
        real: the share of held-out real pictures that look memorised without being so; None without any.
    """
    if real is not None and difference_low(sampled, real) > 0:
        return True
    few = real is None or real.n < ENOUGH_HELD_OUT
    return few and sampled.low > max(TOLERATED, real.value if real else 0.0)


def memorises(shares: Sequence[Estimate], real: Estimate | None, sound: bool) -> bool | None:
    """Tell whether a model memorises.

    Args:
        shares: of memorised paintings, one a series.
        real: the share of real pictures that look memorised without being so; None where that is not known.
        sound: whether copies would have been found, had there been any.

    Returns:
        True where a share is beyond what chance makes of the real one; else False, or None where nothing is proven:
        where copies may have gone unseen, or too few pictures are held out to say what is usual.
    """
    if any(significantly_above(value, real) for value in shares):
        return True
    return False if sound and real is not None and real.n >= ENOUGH_HELD_OUT else None
