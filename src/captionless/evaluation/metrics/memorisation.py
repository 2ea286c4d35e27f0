"""Detect whether a model repeats its training images.

A generated image counts as memorised when its nearest training image is less than a third as far as the second nearest
(arXiv:2310.02664): a new image is about equally far from many. Two things are taken care of:

- Folders hold near-duplicates (bursts, crops), so a copy has two near neighbours. Near-duplicates of the nearest image
  are skipped when searching for the second.
- Training may flip images horizontally. The distance to a training image is the smaller of the distances to it and to
  its mirror image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import Estimate, TooFewError, difference_low

RATIO = 1 / 3
"""Nearest over second nearest distance below which an image counts as memorised (arXiv:2310.02664). Near-duplicates
are closer than the same share of the typical distance between neighbours."""

NEIGHBOUR = 5
"""The neighbour whose distance is typical. Not the first, which is at 0 in a folder that holds most images twice; the
fifth stands up to five copies of everything."""

PROBES = 256
"""Training images that the typical distance is measured at, at most; a median of so many is known to a few percent."""

ENOUGH_HELD_OUT = 40
"""Held-out images needed to show which share is usual. With 40 of them, if none resembles a copy, 10 copies among 100
generated images are beyond chance; with 20 it takes 18, and with 3 it takes 57."""

TOLERATED = 0.01
"""With fewer held-out images, a share that is significantly above both this and theirs is flagged too."""


@dataclass(frozen=True)
class Neighbours:
    """Nearest training images of generated images.

    Args:
        index: index of the nearest training image, (n,).
        distance: Euclidean distance to it or to its mirror image, whichever is smaller, (n,).
        ratio: that over the distance to the second nearest, near-duplicates of the nearest skipped, (n,), 0 to 1.
    """

    index: Tensor
    distance: Tensor
    ratio: Tensor


@torch.no_grad()
def nearest(samples: Tensor, training: Tensor, mirrored: Tensor | None = None, *, block: int = 1024) -> Neighbours:
    """Find the nearest training image of each sample, and how much nearer it is than the second.

    Args:
        samples: generated images as vectors, (n, d): pixels or features.
        training: training images likewise, (m, d).
        mirrored: horizontally flipped training images in the same order, (m, d); None if training did not flip images.
        block: training images compared at a time; memory grows with ``n * m + (n + block) * d``.

    Raises:
        TooFewError: fewer than 3 training images that are not near-duplicates of each other.
    """
    m = len(training)
    if m < 3:
        raise _too_few(f"there are {m} training images")
    variants = [training] if mirrored is None else [training, mirrored]
    mean = training.mean(0, dtype=torch.float32)

    def distances(x: Tensor) -> Tensor:
        """Return the distances (k, m), float32; about the mean the fast matrix product is right to some 0.1%."""
        x = x.float() - mean
        parts = [[torch.cdist(x, part.float() - mean) for part in torch.split(images, block)] for images in variants]
        return reduce(torch.minimum, [torch.cat(part, 1) for part in parts])

    near = RATIO * _typical_distance(training, distances)
    if near == 0:
        raise _too_few(f"most of the {m} training images are copies of each other")
    far = distances(samples)
    index = far.argmin(1)
    duplicates = distances(training[index]) < near
    duplicates[torch.arange(len(index)), index] = True
    second = far.masked_fill(duplicates, torch.inf).amin(1)
    if second.isinf().any():
        raise _too_few(f"the {m} training images are nearly the same")
    exact = [(samples.float() - images[index].float()).square().sum(1).sqrt() for images in variants]
    distance = reduce(torch.minimum, exact)
    return Neighbours(index, distance, (distance / second).clamp(max=1))


def memorised(neighbours: Neighbours) -> Tensor:
    """Return which generated images count as memorised, (n,), bool."""
    return torch.lt(neighbours.ratio, RATIO)


def memorises(shares: Sequence[Estimate], real: Estimate | None, sound: bool) -> bool | None:
    """Decide whether a model memorises.

    Args:
        shares: shares of memorised images, one per series of generated images.
        real: the share of held-out real images that meet the same criterion by chance; None where that is not known.
        sound: whether copies would have been found, had there been any.

    Returns:
        True (flagged) where a share is significantly above the real one; otherwise False (not flagged), or None
        (inconclusive) where copies may have been missed or too few images are held out to know what is usual.
    """
    if any(_significantly_above(value, real) for value in shares):
        return True
    return False if sound and real is not None and real.n >= ENOUGH_HELD_OUT else None


def _significantly_above(generated: Estimate, real: Estimate | None) -> bool:
    if real is not None and difference_low(generated, real) > 0:
        return True
    few = real is None or real.n < ENOUGH_HELD_OUT
    return few and generated.low > max(TOLERATED, real.value if real else 0.0)


def _typical_distance(training: Tensor, distances: Callable[[Tensor], Tensor]) -> float:
    """Return the median distance of training images to their fifth nearest other (the farthest, of fewer than six)."""
    m = len(training)
    rows = torch.arange(0, m, -(-m // PROBES))
    others = distances(training[rows])
    others[torch.arange(len(rows)), rows] = torch.inf
    return float(others.topk(min(NEIGHBOUR, m - 1), dim=1, largest=False).values[:, -1].median())


def _too_few(there_are: str) -> TooFewError:
    return TooFewError(
        f"{there_are}, and a search for memorised images needs at least 3 different ones. Give the whole training "
        "folder."
    )
