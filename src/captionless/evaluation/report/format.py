"""Values as text for people (rounded alike, a dash where there is none) and as JSON for programs."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from captionless.evaluation.metrics.estimate import Estimate
from captionless.evaluation.report.results import Figure

NONE = "—"
"""Shown where a figure is not finite."""

ARROWS = {"higher": "↑", "lower": "↓"}


def number(value: float, figure: Figure) -> str:
    """Format a value with the figure's decimal places, as a percentage where it is one: ``62.3%``, ``−0.4``."""
    if not math.isfinite(value):
        return NONE
    text = f"{value * 100 if figure.percent else value:,.{figure.digits}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-")  # what rounds to zero has no sign
    return text.replace("-", "−") + ("%" if figure.percent else "")


def span(estimate: Estimate, figure: Figure) -> str:
    """Format a 95% range: ``10.1 – 14.5``; empty where an end is not finite."""
    low, high = number(estimate.low, figure), number(estimate.high, figure)
    return "" if NONE in (low, high) else f"{low} – {high}"


def plain(value: Any) -> Any:
    """Convert a dataclass or tuple to JSON-serialisable values, recursively.

    Fields with ``repr=False`` (images, networks) are omitted; a float that is not finite becomes None.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
