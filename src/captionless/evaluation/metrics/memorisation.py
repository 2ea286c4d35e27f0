"""Detect whether a model reproduces its training images.

A generated image counts as memorised if the distance to its nearest training image is less than a third of the distance
to the second nearest (arXiv:2310.02664). A new image, in contrast, is about equally far from many training images. The
search handles two special cases:

- Folders contain near-duplicates (bursts, crops), so a copy can have two near neighbours. Near-duplicates of the
  nearest image are skipped when searching for the second nearest.
- Training may flip images horizontally. The distance to a training image is the minimum over the image and its mirror
  image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import Estimate, TooFewError, difference_low

RATIO = 1 / 3
"""Ratio of nearest to second nearest distance below which an image counts as memorised (arXiv:2310.02664). Training
images closer than this fraction of the typical distance between neighbours count as near-duplicates."""

NEIGHBOUR = 5
"""Rank of the neighbour that defines the typical distance. The first neighbour is at distance 0 in a folder that
contains most images twice; the fifth is robust to up to five copies of every image."""

PROBES = 256
"""Maximum number of training images used to measure the typical distance, enough for a precision of a few percent."""

ENOUGH_HELD_OUT = 40
"""Number of held-out images needed to estimate the share of matches by chance. If no held-out image matches, 10 copies
among 100 generated images are significant with 40 held-out images, while 18 are needed with 20 and 57 with 3."""

TOLERATED = 0.01
"""With fewer held-out images, a share significantly above both this value and the held-out share is also flagged."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images of generated images.

    Args:
        index: index of the nearest training image, (n,).
        distance: Euclidean distance to the nearest training image or its mirror image, whichever is smaller, (n,).
        ratio: ``distance`` over the distance to the second nearest training image, ignoring near-duplicates of the
            nearest, (n,), 0 to 1.
    """

    index: Tensor
    distance: Tensor
    ratio: Tensor


@torch.no_grad()
def nearest(samples: Tensor, training: Tensor, mirrored: Tensor | None = None, *, block: int = 1024) -> Neighbours:
    """Find the nearest training image of each sample, and its distance relative to the second nearest.

    Args:
        samples: pixels or features of generated images, (n, d).
        training: pixels or features of training images, (m, d).
        mirrored: horizontally flipped training images in the same order, (m, d); None if training did not flip images.
        block: number of training images compared at a time; memory grows with ``n * m + (n + block) * d``.

    Raises:
        TooFewError: there are fewer than 3 training images that are not near-duplicates of each other.
    """
    m = len(training)
    if m < 3:
        raise _too_few(f"there are {m} training images")
    variants = [training] if mirrored is None else [training, mirrored]
    mean = training.mean(0, dtype=torch.float32)

    def distances(x: Tensor) -> Tensor:
        """Return the distances (k, m), float32; centring makes the fast matrix product accurate to about 0.1%."""
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
    """Return a mask of the generated images that count as memorised, bool (n,)."""
    return torch.lt(neighbours.ratio, RATIO)


def memorises(shares: Sequence[Estimate], real: Estimate | None, sound: bool) -> bool | None:
    """Decide whether a model memorises.

    Args:
        shares: share of memorised images in each series of generated images.
        real: share of held-out real images that meet the same criterion by chance; None if unknown.
        sound: whether the search could find all copies.

    Returns:
        True (flagged) if a share is significantly above ``real``; otherwise False (not flagged), or None (inconclusive)
        if copies may have been missed or there are too few held-out images to estimate the share of chance matches.
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
    """Return the median distance of training images to their fifth nearest neighbour (or the farthest, if fewer)."""
    m = len(training)
    rows = torch.arange(0, m, -(-m // PROBES))
    others = distances(training[rows])
    others[torch.arange(len(rows)), rows] = torch.inf
    return float(others.topk(min(NEIGHBOUR, m - 1), dim=1, largest=False).values[:, -1].median())


def _too_few(there_are: str) -> TooFewError:
    return TooFewError(
        f"{there_are}, but the search for memorised images needs at least 3 distinct training images. Use the whole "
        "training folder."
    )
