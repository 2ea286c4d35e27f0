"""The report on disk: a page that needs nothing else, and its figures as JSON."""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from captionless.evaluation.report.format import ARROWS, plain
from captionless.evaluation.report.page import REAL, parts
from captionless.evaluation.report.results import ModelEvaluation, Report
from captionless.files import atomic_write

PAGE = "index.html"
FIGURES = "report.json"
FORMAT = 2
"""Of ``report.json``; incremented when a name or a meaning in it changes."""

MAX_WEBP = 16383
"""Pixels per side that WebP allows."""


def write(out: Path, report: Report) -> Path:
    """Write ``index.html`` and ``report.json`` into a folder, in place of those of an earlier report.

    The page is one file with its style and its images; it runs no script and loads nothing. ``report.json`` is what
    `as_json` returns.

    Args:
        out: the folder; created where it does not exist.
        report: the results.

    Returns:
        The path of the page.

    Raises:
        CaptionlessError: the folder cannot be written to.
    """
    text = json.dumps(as_json(report), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    for name, content in ((FIGURES, text), (PAGE, render(report))):
        with atomic_write(Path(out) / name) as path:
            # A file's name need not be valid text; what is not is written as an escape, in JSON too.
            path.write_bytes(content.encode(errors="backslashreplace"))
    return Path(out) / PAGE


def render(report: Report) -> str:
    """Return the page as HTML; all texts of the report are escaped."""
    return _template().render(report=report, parts=parts(report), real=REAL, arrows=ARROWS)


def as_json(report: Report) -> dict[str, Any]:
    """Return the results as ``report.json`` holds them: everything but the images.

    ``models`` is a list with, per model, ``name``, ``facts`` ({what: text}), ``warnings``, ``memorises`` (true, false
    or null), ``verdict`` (the same in words), ``reasons`` (why it is null), ``figures`` and ``reference_points`` ({key:
    fields of `Figure` or `ReferencePoint`}), and ``sections`` ({key: ``missing``, ``tables``, ``notes``}).
    An estimate is ``{"value", "low", "high", "n"}``: the value, its 95% range, the images it rests on. Shares run from
    0 to 1. Numbers that are not finite are null.
    """
    return {
        "format": FORMAT,
        "data": report.data,
        "command": report.command,
        "settings": dict(report.settings),
        "models": [_model(one) for one in report.models],
    }


def data_uri(image: Image.Image) -> str:
    """Return an image as a ``data:`` address: WebP where it is less than half as large as PNG, as for photographs."""
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
    return environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))


def _model(one: ModelEvaluation) -> dict[str, Any]:
    points = [point for section in one.sections for point in section.reference_points]
    return {
        "name": one.name,
        "facts": dict(one.facts),
        "warnings": list(one.warnings),
        "memorises": one.memorises,
        "verdict": one.verdict.title,
        "reasons": list(one.reasons),
        "figures": {key: plain(figure) for key, figure in one.figures.items()},
        "reference_points": {point.key: plain(point) for point in points},
        "sections": {
            section.key: {
                "missing": dict(section.missing),
                "tables": plain(section.tables),
                "notes": list(section.notes),
            }
            for section in one.sections
        },
    }
