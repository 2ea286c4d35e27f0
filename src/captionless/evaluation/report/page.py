"""The content of the report's page: each figure of all models together, in the order of a reader's questions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from captionless.evaluation.metrics.estimate import Estimate
from captionless.evaluation.report.charts import Bar, Tick, scale
from captionless.evaluation.report.format import number, span
from captionless.evaluation.report.results import (
    Figure,
    ImageGrid,
    ModelEvaluation,
    ReferencePoint,
    Report,
    Section,
    Table,
)

REAL = "real images"

PARTS = {
    "text_alignment": ("Text alignment", "Do the images show what the prompts say?"),
    "fidelity": ("Fidelity and diversity", "Do the images look like real ones, and are they as varied?"),
    "memorisation": ("Memorisation", "Are the images new, or copies of training images?"),
    "sweeps": ("Sweeps", "What does each setting change?"),
    "prompts": ("Prompt by prompt", "What each model generates, to see for yourself."),
}
"""Title and question of each part, in order; the image grids of ``text_alignment`` are shown under ``prompts``."""

Item = TypeVar("Item", ImageGrid, Table)
Owned = TypeVar("Owned", bound=Hashable)
Groups = dict[str, list[tuple[str, Item]]]
"""For each title, (model, item) to show side by side; the model is empty where there is only one."""


@dataclass(frozen=True)
class Row:
    """One line of a figure: a model, the real images, or a reference point.

    Args:
        name: whose value it is.
        kind: ``model``, ``real`` or ``mark``.
        estimate: the value; None where nothing was measured.
        value: the value as text.
        span: its 95% range as text.
        bar: where it lies on the figure's scale.
        band: where the real images lie that it is compared with.
        tone: number of the model's colour; 0 for the others.
        why: shown instead where nothing was measured.
    """

    name: str
    kind: str
    estimate: Estimate | None
    value: str
    span: str
    bar: Bar | None
    band: Bar | None
    tone: int = 0
    why: str = ""


@dataclass(frozen=True)
class Block:
    """One figure for all models; ``bent`` is true if its axis becomes logarithmic."""

    anchor: str
    figure: Figure
    rows: list[Row]
    ticks: list[Tick]
    bent: bool


@dataclass(frozen=True)
class Part:
    """One part of the page.

    ``missing`` holds (model, what, why); the model is empty if the entry applies to all models.
    """

    anchor: str
    title: str
    question: str
    blocks: list[Block]
    tables: Groups[Table]
    grids: Groups[ImageGrid]
    missing: list[tuple[str, str, str]]
    notes: list[str]


def parts(report: Report) -> list[Part]:
    """Return the parts of the page that have any content."""
    keys = dict.fromkeys([*PARTS, *(section.key for one in report.models for section in one.sections)])
    found = [_part(report, key, f"part-{i}") for i, key in enumerate(keys, start=1)]
    return [part for part in found if part.blocks or part.tables or part.grids or part.missing or part.notes]


def _part(report: Report, key: str, anchor: str) -> Part:
    def sections(*keys: str) -> Iterator[tuple[ModelEvaluation, Section]]:
        return ((one, section) for one in report.models for section in one.sections if section.key in keys)

    with_grids = {"text_alignment": (), "prompts": ("text_alignment", "prompts")}.get(key, (key,))
    several = len(report.models) > 1
    title, question = PARTS.get(key, (key.capitalize(), ""))
    return Part(
        anchor,
        title,
        question,
        list(_blocks(report, [section for _, section in sections(key)], anchor)),
        _grouped(((one.name, table) for one, section in sections(key) for table in section.tables), several),
        _grouped(((one.name, grid) for one, section in sections(*with_grids) for grid in section.grids), several),
        list(_missing(report, sections(key))),
        list(dict.fromkeys(note for _, section in sections(key) for note in section.notes)),
    )


def _blocks(report: Report, sections: Sequence[Section], anchor: str) -> Iterator[Block]:
    figures = {figure.key: figure for section in reversed(sections) for figure in section.figures}
    points = _owners(
        (one.name, point) for one in report.models for part in one.sections for point in part.reference_points
    )
    for i, key in enumerate(dict.fromkeys(figure.key for section in sections for figure in section.figures), start=1):
        yield _block(report.models, figures[key], points if key == "kid" else {}, f"{anchor}-figure-{i}")


def _block(
    models: Sequence[ModelEvaluation], figure: Figure, points: dict[ReferencePoint, list[str]], anchor: str
) -> Block:
    """Show a figure of all models, of the real images and, sorted from small to large, of the reference points."""
    own = [(one, one.figures.get(figure.key)) for one in models]
    reals = _owners((one.name, found.real) for one, found in own if found and found.real)
    first = next(iter(reals), None)
    values = [found.value for _, found in own if found] + [*reals] + [point.value for point in points]
    on = scale(values, percent=figure.percent, bent=bool(points))

    def row(name: str, kind: str, one: Estimate | None, real: Estimate | None, tone: int = 0, why: str = "") -> Row:
        band = on.bar(real) if real else None
        if one is None:
            return Row(name, kind, None, "", "", None, band, tone, why)
        return Row(name, kind, one, number(one.value, figure), span(one, figure), on.bar(one), band, tone)

    rows = []
    for tone, (one, found) in enumerate(own, start=1):
        real = found.real if found and found.real else first
        rows.append(row(one.name, "model", found.value if found else None, real, tone, _why(one, figure)))
    rows += [row(_label(REAL, names, len(reals) > 1), "real", real, real) for real, names in reals.items()]
    labels = [point.label for point in points]
    for point, names in points.items():
        rows.append(row(_label(point.label, names, labels.count(point.label) > 1), "mark", point.value, first))
    if points:
        rows.sort(key=lambda row: row.estimate.value if row.estimate else math.inf)
    return Block(anchor, figure, rows, on.ticks(), on.bend is not None)


def _owners(pairs: Iterable[tuple[str, Owned]]) -> dict[Owned, list[str]]:
    """Return for each different value the models that it belongs to."""
    found: dict[Owned, list[str]] = {}
    for name, value in pairs:
        found.setdefault(value, []).append(name)
    return found


def _label(text: str, names: list[str], ambiguous: bool) -> str:
    return f"{text} (for {', '.join(names)})" if ambiguous else text


def _why(one: ModelEvaluation, figure: Figure) -> str:
    """Return why a model lacks a figure."""
    missing = dict(entry for section in one.sections for entry in section.missing)
    return missing.get(figure.key) or missing.get(figure.label) or "not measured"


def _missing(report: Report, sections: Iterable[tuple[ModelEvaluation, Section]]) -> Iterator[tuple[str, str, str]]:
    labels = {key: figure.label for one in report.models for key, figure in one.figures.items()}
    for (what, why), names in _owners(
        (one.name, entry) for one, section in sections for entry in section.missing
    ).items():
        yield "" if len(names) == len(report.models) else ", ".join(names), labels.get(what, what), why


def _grouped(items: Iterable[tuple[str, Item]], several: bool) -> Groups[Item]:
    """Group items of the same title, to show them side by side."""
    groups: Groups[Item] = {}
    for model, item in items:
        groups.setdefault(item.title, []).append((model if several else "", item))
    return groups
