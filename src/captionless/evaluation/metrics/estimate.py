"""Estimates with a 95% range, and shares of images with Wilson's interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captionless.errors import CaptionlessError

Z = 1.959963984540054
"""Standard deviations to either side that hold 95% of a normal distribution."""


class TooFewError(CaptionlessError):
    """There are too few images for a figure; the message says how many are needed."""


@dataclass(frozen=True)
class Estimate:
    """A measured figure.

    Args:
        value: the estimate.
        low: lower end of its 95% range.
        high: upper end.
        n: number of images it rests on.
    """

    value: float
    low: float
    high: float
    n: int


def share(hits: int, n: int) -> Estimate:
    """Return a share with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927), which holds near 0 and 1 too.

    Args:
        hits: number of successes.
        n: number of trials, at least 1.
    """
    if n < 1:
        raise TooFewError("a share needs at least 1 image, and there are 0.")
    value = hits / n
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    # At 0 and 1 the interval ends at the value; rounding must not move the end past it.
    return Estimate(value, min(value, centre - reach), max(value, centre + reach), n)


def difference_low(one: Estimate, other: Estimate) -> float:
    """Return the lower end of the 95% range of the difference ``one - other`` of two independent shares.

    Newcombe's method 10 (Statistics in Medicine 17, 1998), computed from their Wilson intervals.
    """
    difference = one.value - other.value
    return difference - math.hypot(one.value - one.low, other.high - other.value)
