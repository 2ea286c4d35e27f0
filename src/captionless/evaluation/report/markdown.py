"""Format the results of an evaluation as Markdown for the model card."""

from __future__ import annotations

import html
import re

from captionless.evaluation.metrics.estimate import Estimate
from captionless.evaluation.report.results import ARROWS, Figure, ModelEvaluation, Report

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def evaluation_markdown(evaluation: ModelEvaluation, report: Report) -> str:
    """Return a model's warnings, verdict, figures, missing figures and evaluation settings as Markdown.

    Returns:
        Markdown without a heading, for ``captionless.checkpoints.card.add_evaluation``.
    """
    rows = ["| | this model (95% range) | real images | images |", "| :-- | --: | --: | --: |"]
    rows += [_row(figure) for figure in evaluation.figures.values()]
    missing = [pair for section in evaluation.sections for pair in section.missing]
    settings = {"Measured against the images of": report.data, **report.settings}
    paragraphs = [
        *(f"> **Warning:** {_plain(warning)}" for warning in evaluation.warnings),
        f"**{evaluation.verdict.title}.** {_plain(evaluation.verdict.meaning)}",
        "\n".join(rows if evaluation.figures else ()),
        "\n".join(f"- {_plain(what)} was not measured: {_plain(why)}" for what, why in missing),
        "; ".join(f"{_plain(what)}: {_plain(text)}" for what, text in settings.items()),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _row(figure: Figure) -> str:
    def shown(one: Estimate | None) -> str:
        return f"{figure.number(one.value)} ({figure.span(one)})" if one else "—"

    name = f"{_plain(figure.label)} {ARROWS[figure.better]}"
    return f"| {name} | {shown(figure.value)} | {shown(figure.real)} | {figure.value.n:,} |"


def _plain(text: str) -> str:
    """Escape Markdown and HTML in a text, and join its lines."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
