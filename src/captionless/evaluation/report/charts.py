"""Where figures lie on a scale, in percent of its width: the geometry of the bars that the report draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from captionless.evaluation.metrics import Estimate

EDGE = 2.0
"""Percent of the width kept free at either end, so that a point at the end of a scale is not cut off."""

APART = 9.0
"""Percent of the width that the numbers of an axis need at least from one to the next, on a phone too."""

INTERVALS = 5
"""About how many intervals an even axis is divided into."""

SMALLEST = 1e-12
"""Ranges that span less are all taken for zero."""

BENDS = 20.0
"""A scale asked to bend does so where its largest value is this many times its bend."""


@dataclass(frozen=True)
class Tick:
    """A number of an axis.

    Args:
        at: where, in percent of the width.
        text: the number.
        anchor: ``start``, ``middle`` or ``end``: which side of the text stands there.
    """

    at: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Bar:
    """Where a figure lies, in percent of the width.

    Args:
        at: its value.
        left: lower end of its range.
        right: upper end.
    """

    at: float
    left: float
    right: float


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers laid over the width of a chart.

    Args:
        low: its first number.
        high: its last.
        bend: None for an even scale; else the value about which it turns from even to logarithmic: a value ``v``
            stands at ``asinh(v / bend)``, which near 0 is ``v / bend`` and far from it a logarithm, of either sign.
        percent: its numbers are shares, written as percentages.
    """

    low: float
    high: float
    bend: float | None = None
    percent: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies, from ``EDGE`` to ``100 - EDGE``; values beyond the ends lie at the ends."""
        low, high, here = (self._bent(number) for number in (self.low, self.high, value))
        share = min(1.0, max(0.0, (here - low) / (high - low)))
        return round(EDGE + share * (100 - 2 * EDGE), 2)

    def bar(self, estimate: Estimate) -> Bar | None:
        """Return where a figure lies; None where it is not a number."""
        if not _is_finite(estimate):
            return None
        return Bar(self.at(estimate.value), self.at(estimate.low), self.at(estimate.high))

    def ticks(self) -> list[Tick]:
        """Return the numbers of its axis from left to right, none too near another."""
        kept: list[float] = []
        for value in self._bent_numbers(self.bend) if self.bend else self._even_numbers():
            if all(abs(self.at(value) - self.at(other)) >= APART for other in kept):
                kept.append(value)
        return [self._tick(value) for value in sorted(kept)]

    def _bent(self, value: float) -> float:
        return math.asinh(value / self.bend) if self.bend else value

    def _tick(self, value: float) -> Tick:
        at = self.at(value)
        text = f"{value * 100:.10g}%" if self.percent else f"{value:.10g}"
        anchor = "start" if at < 2 * EDGE else "end" if at > 100 - 2 * EDGE else "middle"
        return Tick(at, text.replace("-", "−"), anchor)

    def _even_numbers(self) -> list[float]:
        step = _step(self.high - self.low)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]

    def _bent_numbers(self, bend: float) -> list[float]:
        """Return candidates, those that matter most first: zero, powers of ten from the largest down, three times them.

        Downwards, because what crowds near zero is to give way.
        """
        top = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        powers = range(top, math.floor(math.log10(bend)) - 1, -1)
        sizes = [round(10.0**k, 12) for k in powers] + [round(3 * 10.0**k, 12) for k in powers]
        return [0.0, *(value for size in sizes for value in (size, -size) if self.low <= value <= self.high)]


def scale(estimates: Sequence[Estimate], *, percent: bool = False, bent: bool = False) -> Scale:
    """Return a scale that holds all the ranges, and 0, for a bar cut off from its zero exaggerates differences.

    Args:
        estimates: what is to be shown; those that are not numbers are passed over.
        percent: they are shares.
        bent: let it turn logarithmic, where the values span so much that an even one would crowd the small ones.
    """
    shown = [one for one in estimates if _is_finite(one)]
    low = min((one.low for one in shown), default=0.0)
    high = max((one.high for one in shown), default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < SMALLEST:
        return Scale(0.0, 1.0, percent=percent)
    if bent and high > 0:
        # Even up to the smallest of the values, which are as good as zero.
        smallest = min(max(abs(one.low), abs(one.high)) for one in shown)
        bend = max(smallest, high / 1000)
        if high > BENDS * bend:
            return Scale(low, _round_up(high), bend, percent)
    step = _step(high - low)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, min(high, 1.0) if percent and max(one.high for one in shown) <= 1 else high, None, percent)


def _step(length: float) -> float:
    """Return the step 1, 2 or 5 times a power of ten that divides a length into about ``INTERVALS``."""
    rough = length / INTERVALS
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(nice for nice in (1, 2, 5, 10) if rough <= nice * power * (1 + 1e-9))


def _round_up(value: float) -> float:
    """Return the least of 1, 2, 3 and 5 times the powers of ten that holds a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(nice for nice in (1, 2, 3, 5, 10) if value <= nice * power * (1 + 1e-9))


def _is_finite(one: Estimate) -> bool:
    return all(math.isfinite(value) for value in (one.value, one.low, one.high))
