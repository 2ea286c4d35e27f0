"""The geometry of the report's bars: where figures lie on a scale, in percent of its width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from captionless.evaluation.metrics.estimate import Estimate

EDGE = 2.0
"""Percent of the width kept free at either end, so that a point at the end of a scale is not cut off."""

SPACING = 9.0
"""Minimum distance between the ticks of an axis, in percent of the width; enough on a phone."""


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its position in percent of the width, its text, and the ``text-anchor`` of SVG."""

    at: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Bar:
    """The positions of a figure's value (``at``) and of the ends of its range, in percent of the width."""

    at: float
    left: float
    right: float


@dataclass(frozen=True)
class Scale:
    """An interval of numbers drawn over the width of a chart.

    Args:
        low: its first number.
        high: its last.
        bend: None for a linear scale; otherwise a value ``v`` lies at ``asinh(v / bend)``, which is linear near 0 and
            logarithmic beyond the bend, on either side.
        percent: its numbers are shares, written as percentages.
    """

    low: float
    high: float
    bend: float | None = None
    percent: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value, from ``EDGE`` to ``100 - EDGE``; values beyond the ends are clamped."""
        low, high, here = (math.asinh(x / self.bend) if self.bend else x for x in (self.low, self.high, value))
        share = min(1.0, max(0.0, (here - low) / (high - low)))
        return round(EDGE + share * (100 - 2 * EDGE), 2)

    def bar(self, estimate: Estimate) -> Bar | None:
        """Return the bar positions of an estimate; None if it is not finite."""
        if not _is_finite(estimate):
            return None
        return Bar(self.at(estimate.value), self.at(estimate.low), self.at(estimate.high))

    def ticks(self) -> list[Tick]:
        """Return the axis ticks from left to right, omitting those too close to others."""
        kept: list[float] = []
        for value in self._numbers():
            if all(abs(self.at(value) - self.at(other)) >= SPACING for other in kept):
                kept.append(value)
        return [self._tick(value) for value in sorted(kept)]

    def _numbers(self) -> list[float]:
        """Return round numbers on the scale, the most important first."""
        if not self.bend:
            step = _round_up((self.high - self.low) / 5, (1, 2, 5))
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [round(k * step, 12) for k in range(first, last + 1)]
        # Zero, the powers of ten from the largest down, then three times them: what is crowded near zero gives way.
        top = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        powers = [10.0**k for k in range(top, math.floor(math.log10(self.bend)) - 1, -1)]
        sizes = [round(factor * power, 12) for factor in (1, 3) for power in powers]
        return [0.0, *(value for size in sizes for value in (size, -size) if self.low <= value <= self.high)]

    def _tick(self, value: float) -> Tick:
        at = self.at(value)
        text = f"{value * 100:.10g}%" if self.percent else f"{value:.10g}"
        anchor = "start" if at < 2 * EDGE else "end" if at > 100 - 2 * EDGE else "middle"
        return Tick(at, text.replace("-", "−"), anchor)


def scale(estimates: Sequence[Estimate], *, percent: bool = False, bent: bool = False) -> Scale:
    """Return a scale that holds all ranges, and 0: a bar cut off from zero exaggerates differences.

    Args:
        estimates: what is shown; those that are not finite are ignored.
        percent: they are shares.
        bent: let the scale turn logarithmic where the values span so much that a linear one would crowd the small ones.
    """
    shown = [one for one in estimates if _is_finite(one)]
    low = min([0.0, *(one.low for one in shown)])
    high = max([0.0, *(one.high for one in shown)])
    if high - low < 1e-12:
        return Scale(0.0, 1.0, percent=percent)
    if bent and high > 0:
        # Linear up to the smallest of the values.
        bend = max(min(max(abs(one.low), abs(one.high)) for one in shown), high / 1000)
        if high > 20 * bend:
            return Scale(low, _round_up(high, (1, 2, 3, 5)), bend, percent)
    step = _round_up((high - low) / 5, (1, 2, 5))
    low, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, min(top, 1.0) if percent and high <= 1 else top, None, percent)


def _round_up(value: float, digits: tuple[int, ...]) -> float:
    """Return the least of ``digits`` times a power of ten that is not below a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(digit for digit in (*digits, 10) if value <= digit * power * (1 + 1e-9))


def _is_finite(one: Estimate) -> bool:
    return all(math.isfinite(value) for value in (one.value, one.low, one.high))
