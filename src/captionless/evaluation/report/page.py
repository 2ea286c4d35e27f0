"""Write the report: ``index.html``, a self-contained page, and ``report.json``, which is machine-readable."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from captionless.errors import CaptionlessError
from captionless.evaluation.metrics.estimate import Estimate
from captionless.evaluation.report.results import ARROWS, Figure, ModelEvaluation, Report
from captionless.files import atomic_write
from captionless.text_files import read_json

PAGE, FIGURES = "index.html", "report.json"
FORMAT = 3
"""Format version of ``report.json``; incremented when the name or the meaning of a field changes."""

TITLES = {
    "text_alignment": ("Text alignment", "Do the images show what the prompts say?"),
    "fidelity": ("Fidelity and diversity", "Do the images look like real ones, and are they as varied?"),
    "memorisation": ("Memorisation", "Are the images new, or copies of training images?"),
}
"""Title and question of each section."""


@dataclass(frozen=True)
class Row:
    """One row of a chart: a model, the real images, or a point of comparison.

    Args:
        name: label of the row.
        estimate: the value; None if it was not measured.
        band: the reference value of real images.
        tone: number of the model's colour, from 1; 0 for rows that are not models.
    """

    name: str
    estimate: Estimate | None
    band: Estimate | None = None
    tone: int = 0


@dataclass(frozen=True)
class Chart:
    """A figure for all models, on an axis from ``low`` to ``high`` that includes 0."""

    figure: Figure
    rows: list[Row]
    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the position of a value in percent of the chart's width."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def write_report(out: Path, report: Report) -> Path:
    """Write ``index.html`` and ``report.json`` into a folder, replacing an earlier report.

    Returns:
        The path of the page, which contains no scripts and loads no other files.

    Raises:
        CaptionlessError: the folder is not writable, or `check_replaceable` raises.
    """
    check_replaceable(out)
    text = json.dumps(report_json(report), ensure_ascii=False, indent=2) + "\n"
    for name, content in ((FIGURES, text), (PAGE, render(report))):
        with atomic_write(out / name) as path:
            # File names may contain invalid Unicode, which is written as an escape sequence.
            path.write_bytes(content.encode(errors="backslashreplace"))
    return out / PAGE


def check_replaceable(out: Path) -> None:
    """Raise if a folder has files with the names of a report that are not those of an earlier report."""
    found = [name for name in (FIGURES, PAGE) if os.path.lexists(out / name)]
    try:
        earlier = bool(found) and {"format", "models"} <= read_json(out / FIGURES).keys()
    except (OSError, ValueError, AttributeError):
        earlier = False
    if found and not earlier:
        raise CaptionlessError(
            f"{out} has files that are not from an earlier report and would be replaced: {', '.join(found)}. Choose "
            "another `out`.",
            parameter="out",
            value=out,
            code="folder_in_use",
        )


def render(report: Report) -> str:
    """Render the page as HTML; all text of the report is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = data_uri
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    by_key = {key: charts(report.models, key) for key in TITLES}
    return template.render(report=report, titles=TITLES, charts=by_key, arrows=ARROWS)


def report_json(report: Report) -> dict[str, Any]:
    """Return the content of ``report.json``: all results except the images.

    Each entry of ``models`` has the keys ``name``, ``facts``, ``warnings``, ``memorises`` (true, false or null),
    ``verdict`` (the same as text), ``reasons`` (why ``memorises`` is null), ``figures`` ({key: fields of `Figure`}),
    ``missing`` ({figure: reason}), ``notes``, ``classes`` (fields of `ClassResult` and ``passed``) and ``passed``. An
    estimate is ``{"value", "low", "high", "n"}``: the value, its 95% range, and the number of images. Shares are in
    [0, 1].
    """
    models = [
        {
            "name": one.name,
            "facts": one.facts,
            "warnings": one.warnings,
            "memorises": one.memorises,
            "verdict": one.verdict.title,
            "reasons": one.reasons,
            "figures": {key: asdict(figure) for key, figure in one.figures.items()},
            "missing": {what: why for section in one.sections for what, why in section.missing},
            "notes": [note for section in one.sections for note in section.notes],
            "classes": [{**asdict(of), "passed": of.passed} for of in one.classes],
            "passed": one.passed,
        }
        for one in report.models
    ]
    return {"format": FORMAT, "data": report.data, "settings": report.settings, "models": models}


def charts(models: Sequence[ModelEvaluation], section: str) -> list[Chart]:
    """Return one chart per figure of a section, each with all models."""
    figures: dict[str, Figure] = {}
    for part in (part for one in models for part in one.sections if part.key == section):
        figures = {figure.key: figure for figure in part.figures} | figures
    return [_chart(models, figure) for figure in figures.values()]


def _chart(models: Sequence[ModelEvaluation], figure: Figure) -> Chart:
    rows, reals = [], dict[Estimate, list[str]]()
    for tone, one in enumerate(models, start=1):
        own = one.figures.get(figure.key)
        rows.append(Row(one.name, own.value if own else None, own.real if own else None, tone))
        if own and own.real:
            reals.setdefault(own.real, []).append(one.name)
    for real, names in reals.items():
        rows.append(Row("real images" if len(reals) == 1 else f"real images (for {', '.join(names)})", real, real))
    rows += [Row(label, value, figure.real) for label, value in figure.marks]
    shown = [row.estimate for row in rows if row.estimate]
    low, high = min(0.0, *(one.low for one in shown)), max(0.0, *(one.high for one in shown))
    return Chart(figure, rows, low, high if high > low else low + 1)


def data_uri(image: Image.Image) -> str:
    """Encode an image as a ``data:`` URI."""
    data = io.BytesIO()
    image.save(data, format="WEBP", quality=90, use_sharp_yuv=True)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
