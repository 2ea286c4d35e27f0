"""Figures as a person reads them: rounded alike, with a true minus sign, and a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from captionless.evaluation.metrics import Estimate
from captionless.evaluation.report.results import Figure

NONE = "—"
"""What stands where a figure is not a number."""

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
BETTER = {"higher": "higher is better", "lower": "lower is better", "neither": ""}


def number(value: float, figure: Figure) -> str:
    """Write a value of a figure with its decimal places, as a percentage where it is one: ``62.3%``, ``−0.4``."""
    if not math.isfinite(value):
        return NONE
    text = f"{value * 100 if figure.percent else value:,.{figure.digits}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-")  # what rounds to zero has no sign
    return text.replace("-", "−") + ("%" if figure.percent else "")


def span(estimate: Estimate, figure: Figure, *, width: int = 0) -> str:
    """Write a 95% range: ``10.1 – 14.5``.

    Args:
        estimate: whose range it is.
        figure: how its values are written.
        width: characters the upper end is brought to with spaces as wide as a digit, so that ranges stand aligned.
    """
    low, high = number(estimate.low, figure), number(estimate.high, figure)
    return f"{low} – {high:\u2007>{width}}" if NONE not in (low, high) else ""


def span_width(estimates: Sequence[Estimate], figure: Figure) -> int:
    """Return the ``width`` at which the ranges of a figure stand aligned."""
    return max((len(number(one.high, figure)) for one in estimates), default=0)
