"""The report as its page shows it: the same figure of all models together, in the order of a reader's questions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from captionless.evaluation.metrics import Estimate
from captionless.evaluation.report.charts import Bar, Scale, Tick, scale
from captionless.evaluation.report.format import ARROWS, BETTER, number, span, span_width
from captionless.evaluation.report.results import (
    Figure,
    ImageGrid,
    ModelEvaluation,
    ReferencePoint,
    Report,
    Section,
    Table,
)

REAL = "real pictures"
RULER = "kid"
"""The figure that marks are set beside."""

PARTS = {
    "text_alignment": ("Text alignment", "Do the images show what their prompts ask for?"),
    "fidelity": ("Fidelity and diversity", "Do the images look like real ones, and are they as varied?"),
    "memorisation": ("Memorisation", "Are the images new, or copies of training images?"),
    "sweeps": ("Sweeps", "What does each setting change?"),
    "prompts": ("Prompt by prompt", "Images of each model, to see for yourself."),
}
"""Title and question of each part in order; the images of ``text_alignment`` are shown under ``prompts``."""

VERDICTS = {
    True: ("bad", "Caught memorising", "It painted more copies of training pictures than chance explains."),
    False: ("good", "Not caught memorising", "It painted no more near-copies than chance explains."),
    None: ("unknown", "Memorisation not measured", "Whether its pictures are copies is not known."),
}
NEITHER = "Neither caught nor cleared"
_NUMERIC = re.compile(r"[+−-]?[\d.,]+%?( ?[-–±/(\[].*)?|—|-|")
Kind = TypeVar("Kind", ImageGrid, Table)
_Line = tuple[str, str, int, Estimate | None, Estimate | None]
"""Name, kind, tone, value, and the real pictures it is compared with."""


@dataclass(frozen=True)
class Row:
    """One line of a figure: a model, the real pictures, or a mark.

    Args:
        name: whose value it is.
        kind: ``model``, ``real`` or ``mark``.
        tone: number of the model's colour; 0 for the others.
        value: as text.
        span: its 95% range as text.
        n: pictures it rests on; 0 where nothing was measured.
        bar: where it lies on the figure's scale.
        band: where the real pictures lie that it is compared with.
        why: what is said instead where nothing was measured.
    """

    name: str
    kind: str
    tone: int = 0
    value: str = ""
    span: str = ""
    n: int = 0
    bar: Bar | None = None
    band: Bar | None = None
    why: str = ""


@dataclass(frozen=True)
class Block:
    """One figure of all models; ``bent`` where its scale turns logarithmic."""

    anchor: str
    figure: Figure
    arrow: str
    better: str
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    bent: bool


@dataclass(frozen=True)
class Part:
    """One part of the page. Tables and grids stand in groups of the same title, with the model's name each."""

    anchor: str
    title: str
    question: str
    blocks: tuple[Block, ...]
    tables: tuple[tuple[str, tuple[tuple[str, Table], ...]], ...]
    grids: tuple[tuple[str, tuple[tuple[str, ImageGrid], ...]], ...]
    missing: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]


def parts(report: Report) -> list[Part]:
    """Return the parts of the page; parts that no model has are left out."""
    found = (_part(report, key, i) for i, key in enumerate(_keys(report)))
    return [part for part in found if part.blocks or part.tables or part.grids or part.missing or part.notes]


def verdict(examination: ModelEvaluation) -> tuple[str, str, str]:
    """Return what is said of copies: its kind (``bad``, ``good`` or ``unknown``), the verdict, and what it means."""
    looked = any(section.key == "memorisation" and section.figures for section in examination.sections)
    if examination.memorises is not None or not looked:
        return VERDICTS[examination.memorises]
    meaning = "No more near-copies were found than chance explains, which clears nobody here"
    return "unknown", NEITHER, ": ".join([meaning, *filter(None, ["; ".join(examination.reasons)])]) + "."


def numeric_columns(table: Table) -> list[bool]:
    """Return for each column of a table whether it holds nothing but numbers, which are set to the right."""
    columns = ([row[i].strip() for row in table.rows] for i in range(len(table.heads)))
    return [any(cells) and all(_NUMERIC.fullmatch(cell) for cell in cells) for cells in columns]


def _keys(report: Report) -> list[str]:
    """Return the sections' keys in the order of ``PARTS``, then those it does not name."""
    own = [section.key for one in report.models for section in one.sections]
    return [*PARTS, *(key for key in dict.fromkeys(own) if key not in PARTS)]


def _part(report: Report, key: str, i: int) -> Part:
    title, question = PARTS.get(key, (key.capitalize(), ""))
    own = [(one, section) for one in report.models for section in one.sections if section.key == key]
    shown = ("text_alignment", "prompts") if key == "prompts" else () if key == "text_alignment" else (key,)
    grids = (
        (one.model, sheet)
        for one in report.models
        for section in one.sections
        if section.key in shown
        for sheet in section.grids
    )
    several = len(report.models) > 1
    return Part(
        f"part-{i + 1}",
        title,
        question,
        tuple(_blocks(report, [section for _, section in own], f"figure-{i + 1}")),
        _together(((one.model, table) for one, section in own for table in section.tables), several),
        _together(grids, several),
        tuple(_missing(own, report)),
        tuple(dict.fromkeys(note for _, section in own for note in section.notes)),
    )


def _blocks(report: Report, sections: Sequence[Section], anchor: str) -> Iterator[Block]:
    """Yield the figures of a part, each with the value of every model."""
    figures = {figure.key: figure for section in sections for figure in reversed(section.figures)}
    keys = dict.fromkeys(figure.key for section in sections for figure in section.figures)
    marks = _marks(report, sections)
    for i, key in enumerate(keys):
        yield _block(report.models, figures[key], marks if key == RULER else (), f"{anchor}-{i + 1}")


def _marks(report: Report, sections: Sequence[Section]) -> tuple[ReferencePoint, ...]:
    """Return the marks of all models; where those of one name differ, each says which model it belongs to."""
    owners: dict[ReferencePoint, list[str]] = {}
    for examination in report.models:
        for section in examination.sections:
            for mark in section.reference_points if section in sections else ():
                owners.setdefault(mark, []).append(examination.model)
    times = Counter(mark.label for mark in owners)
    return tuple(
        replace(mark, label=f"{mark.label} (for {', '.join(names)})") if times[mark.label] > 1 else mark
        for mark, names in owners.items()
    )


def _block(models: Sequence[ModelEvaluation], figure: Figure, marks: Sequence[ReferencePoint], anchor: str) -> Block:
    """Set a figure of all models beside the real pictures and, on a ruler from small to large, the marks."""
    own = [(one, one.figures.get(figure.key)) for one in models]
    reals = list(dict.fromkeys(found.real for _, found in own if found and found.real))
    first = reals[0] if reals else None
    lines: list[_Line] = [
        (one.model, "model", tone, found.value if found else None, found.real or first if found else first)
        for tone, (one, found) in enumerate(own, start=1)
    ]
    for real in reals:
        of = ", ".join(one.model for one, found in own if found and found.real == real)
        lines.append((REAL if len(reals) == 1 else f"{REAL} (for {of})", "real", 0, real, real))
    lines += [(mark.label, "mark", 0, mark.value, first) for mark in marks if mark.value not in reals]
    if marks:
        lines.sort(key=lambda line: line[3].value if line[3] else math.inf)
    values = [value for *_, value, _ in lines if value]
    on = scale(values, percent=figure.percent, bent=bool(marks))
    rows = tuple(_row(line, figure, on, values, models) for line in lines)
    arrow, better = ARROWS.get(figure.better, ""), BETTER.get(figure.better, "")
    return Block(anchor, figure, arrow, better, rows, tuple(on.ticks()), on.bend is not None)


def _row(line: _Line, figure: Figure, on: Scale, values: Sequence[Estimate], models: Sequence[ModelEvaluation]) -> Row:
    name, kind, tone, value, real = line
    band = on.bar(real) if real else None
    if value is None:
        return Row(name, kind, tone, band=band, why=_why(models[tone - 1], figure))
    text, reach = number(value.value, figure), span(value, figure, width=span_width(values, figure))
    return Row(name, kind, tone, text, reach, value.n, on.bar(value), band)


def _why(examination: ModelEvaluation, figure: Figure) -> str:
    """Return why a model has no such figure."""
    missing = dict(entry for section in examination.sections for entry in section.missing)
    return missing.get(figure.key) or missing.get(figure.label) or "not measured"


def _missing(own: Sequence[tuple[ModelEvaluation, Section]], report: Report) -> Iterator[tuple[str, str, str]]:
    """Yield (model, what, why); no model where it holds for all."""
    labels = {key: figure.label for one in report.models for key, figure in one.figures.items()}
    found: dict[tuple[str, str], list[str]] = {}
    for one, section in own:
        for entry in section.missing:
            found.setdefault(entry, []).append(one.model)
    for (what, why), names in found.items():
        whose = "" if len(names) == len(report.models) else ", ".join(names)
        yield whose, labels.get(what, what), why


def _together(own: Iterable[tuple[str, Kind]], several: bool) -> tuple[tuple[str, tuple[tuple[str, Kind], ...]], ...]:
    """Group what bears the same title, so that it can stand side by side."""
    groups: dict[str, list[tuple[str, Kind]]] = {}
    for model, one in own:
        groups.setdefault(one.title, []).append((model if several else "", one))
    return tuple((title, tuple(group)) for title, group in groups.items())
