"""What an evaluation found, in a few lines for the model's card."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from captionless.evaluation.report.format import ARROWS, NONE, number, span
from captionless.evaluation.report.page import REAL, verdict
from captionless.evaluation.report.results import Figure, ModelEvaluation, Report

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def card_lines(examination: ModelEvaluation, report: Report | None = None) -> str:
    """Return the figures of a model as Markdown: warnings, verdict, a table, what was left out, how it was measured.

    Args:
        examination: what was found.
        report: of which it is a part, for how it was measured; None leaves that out.

    Returns:
        Lines without a heading, for ``captionless.checkpoints.card.add_evaluation``.
    """
    _, found, meaning = verdict(examination)
    paragraphs = [
        *(f"> **Mind:** {_plain(warning)}" for warning in examination.warnings),
        f"**{found}.** {_plain(meaning)}",
        _table(examination),
        _missing(examination),
        *(_how(report) if report else ()),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _how(report: Report) -> Iterator[str]:
    settings = "; ".join(f"{_plain(what)}: {_plain(text)}" for what, text in report.settings)
    yield f"Measured against the pictures of `{_one_line(report.data).replace('`', chr(39))}`. {settings}".rstrip()
    if report.command:
        yield f"    {_one_line(report.command)}"


def _table(examination: ModelEvaluation) -> str:
    if not examination.figures:
        return ""
    heads = f"| | this model (95% range) | {REAL} | pictures |\n| :-- | --: | --: | --: |\n"
    return heads + "\n".join(_line(figure) for figure in examination.figures.values())


def _line(figure: Figure) -> str:
    name = f"{_plain(figure.label)} {ARROWS.get(figure.better, '')}".strip()
    ranges = [
        f"{number(one.value, figure)} ({span(one, figure)})" if one and span(one, figure) else NONE
        for one in (figure.value, figure.real)
    ]
    return f"| {name} | {ranges[0]} | {ranges[1]} | {figure.value.n:,} |"


def _missing(examination: ModelEvaluation) -> str:
    entries = [entry for part in examination.sections for entry in part.missing]
    return "\n".join(f"- {_plain(what)} was not measured: {_plain(why)}" for what, why in entries)


def _plain(text: str) -> str:
    """Bring text onto one line of Markdown that means nothing but itself."""
    return _SPECIAL.sub(r"\\\1", html.escape(_one_line(text), quote=False))


def _one_line(text: str) -> str:
    return " ".join(text.split())
