"""The results of an evaluation in a few lines of Markdown, for the model card."""

from __future__ import annotations

import html
import re

from captionless.evaluation.report.format import ARROWS, NONE, number, span
from captionless.evaluation.report.results import Figure, ModelEvaluation, Report

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def card_lines(evaluation: ModelEvaluation, report: Report | None = None) -> str:
    """Return a model's results as Markdown: warnings, verdict, figures, what is missing, how it was measured.

    Args:
        evaluation: the results.
        report: the report they belong to, which says how they were measured; None leaves that out.

    Returns:
        Lines without a heading, for ``captionless.checkpoints.card.add_evaluation``.
    """
    paragraphs = [
        *(f"> **Warning:** {_plain(warning)}" for warning in evaluation.warnings),
        f"**{evaluation.verdict.title}.** {_plain(evaluation.verdict.meaning)}",
        _table(list(evaluation.figures.values())),
        "\n".join(
            f"- {_plain(what)} was not measured: {_plain(why)}"
            for section in evaluation.sections
            for what, why in section.missing
        ),
    ]
    if report:
        settings = "; ".join(f"{_plain(what)}: {_plain(text)}" for what, text in report.settings)
        data = _one_line(report.data).replace("`", "'")
        paragraphs += [f"Measured against the images of `{data}`. {settings}".rstrip()]
        paragraphs += [f"    {_one_line(report.command)}"] if report.command else []
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _table(figures: list[Figure]) -> str:
    if not figures:
        return ""
    heads = ["| | this model (95% range) | real images | images |", "| :-- | --: | --: | --: |"]
    return "\n".join(heads + [_row(figure) for figure in figures])


def _row(figure: Figure) -> str:
    name = f"{_plain(figure.label)} {ARROWS.get(figure.better, '')}".strip()
    model, real = (
        f"{number(one.value, figure)} ({span(one, figure)})" if one and span(one, figure) else NONE
        for one in (figure.value, figure.real)
    )
    return f"| {name} | {model} | {real} | {figure.value.n:,} |"


def _plain(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(_one_line(text), quote=False))


def _one_line(text: str) -> str:
    return " ".join(text.split())
