"""Showing what an evaluation found: one page that needs nothing beside it, and its figures for programs."""

from __future__ import annotations

import base64
import io
import json
import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from captionless.evaluation.metrics import Estimate
from captionless.evaluation.report import page
from captionless.evaluation.report.card import card_lines
from captionless.evaluation.report.results import Figure, ModelEvaluation, Report, Section
from captionless.files import atomic_write

__all__ = ["as_json", "card_lines", "data_uri", "render", "write"]

PAGE = "index.html"
FIGURES = "report.json"
FORMAT = 1
"""Of ``report.json``; counted up when something in it changes its name or its meaning."""

ODD_TEXT = "backslashreplace"
"""A file's name need not be text; what is none is written as a code."""
MAX_WEBP = 16383
"""Pixels a side that a WebP picture may have."""


def write(out: Path, report: Report) -> Path:
    """Write ``index.html`` and ``report.json`` into a folder, in place of those of an earlier report.

    The page is one file: it carries its style and its pictures, runs no script and asks the network for nothing.
    ``report.json`` is what ``as_json`` returns.

    Args:
        out: the folder; made where it does not exist.
        report: what was found.

    Returns:
        The path of the page.

    Raises:
        CaptionlessError: the folder cannot be written to.
    """
    text = json.dumps(as_json(report), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    html = render(report)
    # The codes of what is no text are also what JSON writes for it.
    for name, content in ((FIGURES, text), (PAGE, html)):
        with atomic_write(Path(out) / name) as path:
            path.write_bytes(content.encode(errors=ODD_TEXT))
    return Path(out) / PAGE


def render(report: Report) -> str:
    """Return the page as HTML; everything that a report holds is escaped."""
    return _template().render(report=report, parts=page.parts(report), real=page.REAL, verdict=page.verdict)


def as_json(report: Report) -> dict[str, Any]:
    """Return the figures of a report as ``report.json`` holds them: all but the pictures.

    An *estimate* is ``{"value", "low", "high", "n"}``: the value, its 95% range, the pictures it rests on. Shares run
    from 0 to 1. What is not a finite number is null.

    - ``format``: 1
    - ``data``, ``command``: texts; ``settings``: {what: text}
    - ``models``: a list, one a model, in the order they were asked for:

        - ``model``: its name; ``facts``: {what: text}; ``warnings``: texts; ``memorises``: true, false or null;
          ``verdict``: the same in words; ``reasons``: texts, why it is null although copies were looked for
        - ``figures``: {key: *estimate* with ``section``, ``label``, ``better`` (higher, lower or neither),
          ``percent`` (whether it is a share) and ``real`` (an *estimate* of real photographs, or null)}
        - ``marks``: {key: *estimate* with ``label``}, points of comparison for the figure ``kid``
        - ``missing``: a list of {``section``, ``what``, ``why``}
        - ``tables``: a list of {``section``, ``title``, ``heads``, ``rows`` (of texts), ``note``}
        - ``notes``: a list of {``section``, ``text``}
    """
    return {
        "format": FORMAT,
        "data": report.data,
        "command": report.command,
        "settings": dict(report.settings),
        "models": [_model(one) for one in report.models],
    }


def data_uri(image: Image.Image) -> str:
    """Return a picture as a ``data:`` address: WebP where that saves much against PNG, as it does for photographs."""
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    kind, data = "png", _encoded(image, "PNG", optimize=True)
    if max(image.size) <= MAX_WEBP:
        small = _encoded(image, "WEBP", quality=90, method=4, use_sharp_yuv=True)
        if 2 * len(small) < len(data):
            kind, data = "webp", small
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format=format, **options)
    return data.getvalue()


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = data_uri
    environment.filters["numeric_columns"] = page.numeric_columns
    return environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))


def _model(one: ModelEvaluation) -> dict[str, Any]:
    return {
        "model": one.model,
        "facts": dict(one.facts),
        "warnings": list(one.warnings),
        "memorises": one.memorises,
        "verdict": page.verdict(one)[1],
        "reasons": list(one.reasons),
        "figures": {figure.key: _figure(part, figure) for part in one.sections for figure in part.figures},
        "marks": {
            mark.key: {"label": mark.label, **_estimate(mark.value)}
            for part in one.sections
            for mark in part.reference_points
        },
        "missing": [
            {"section": part.key, "what": what, "why": why} for part in one.sections for what, why in part.missing
        ],
        "tables": [table for part in one.sections for table in _tables(part)],
        "notes": [{"section": part.key, "text": note} for part in one.sections for note in part.notes],
    }


def _figure(part: Section, figure: Figure) -> dict[str, Any]:
    return {
        "section": part.key,
        "label": figure.label,
        **_estimate(figure.value),
        "better": figure.better,
        "percent": figure.percent,
        "real": _estimate(figure.real) if figure.real else None,
    }


def _estimate(one: Estimate) -> dict[str, float | int | None]:
    ends = {"value": one.value, "low": one.low, "high": one.high}
    return {**{name: end if math.isfinite(end) else None for name, end in ends.items()}, "n": one.n}


def _tables(part: Section) -> list[dict[str, Any]]:
    return [
        {
            "section": part.key,
            "title": table.title,
            "heads": list(table.heads),
            "rows": [list(row) for row in table.rows],
            "note": table.note,
        }
        for table in part.tables
    ]
