"""What an evaluation found: plain values, which ``report`` shows and ``report.json`` keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from captionless.evaluation.metrics import Estimate


@dataclass(frozen=True)
class Figure:
    """One measured figure of one model.

    Args:
        key: its name in ``report.json``, such as ``kid``; the same figure has the same key for every model.
        label: its name for people.
        value: what was measured.
        real: the same for real photographs (held-out halves, the classifier's ceiling …); None where there is none.
        better: ``higher``, ``lower`` or ``neither``.
        percent: shown as a percentage.
        digits: decimal places shown.
        explanation: one or two sentences in plain words.
    """

    key: str
    label: str
    value: Estimate
    real: Estimate | None = None
    better: str = "higher"
    percent: bool = False
    digits: int = 1
    explanation: str = ""


@dataclass(frozen=True)
class ReferencePoint:
    """A point of comparison on a figure's scale, such as the KID of photographs with a little noise."""

    key: str
    label: str
    value: Estimate


@dataclass(frozen=True)
class ImageGrid:
    """A picture to look at, with a sentence about it.

    Args:
        title: above it.
        image: the contact sheet.
        note: under it; may be empty.
    """

    title: str
    image: Image.Image = field(repr=False)
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of numbers, such as a sweep.

    Args:
        title: above it.
        heads: of the columns.
        rows: texts, as many a row as there are heads.
        note: under it; may be empty.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of an evaluation.

    Args:
        key: ``text_alignment``, ``fidelity``, ``memorisation`` or ``sweeps``.
        figures: what was measured.
        missing: (what, why) of each figure, or of the whole section, that was left out.
        reference_points: points of comparison for the figure ``kid``.
        tables: numbers in rows.
        grids: pictures to look at.
        notes: sentences on how it was measured, or what to keep in mind.
        reasons: of ``memorisation``: why a model that was not caught is not cleared either.
    """

    key: str
    figures: tuple[Figure, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    reference_points: tuple[ReferencePoint, ...] = ()
    tables: tuple[Table, ...] = ()
    grids: tuple[ImageGrid, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelEvaluation:
    """What was found about one model.

    Args:
        model: its name, as it was asked for.
        facts: (what, text) about it: size, weights, pictures seen …
        sections: its parts, in the order they are shown.
        warnings: what a reader must know before believing a figure.
        memorises: whether it was caught memorising; None where that is not proven either way.
    """

    model: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    memorises: bool | None = None

    @property
    def figures(self) -> dict[str, Figure]:
        """All its figures, by key."""
        return {figure.key: figure for section in self.sections for figure in section.figures}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was neither caught memorising nor cleared of it, where copies were looked for."""
        return tuple(doubt for section in self.sections for doubt in section.reasons)


@dataclass(frozen=True)
class Report:
    """One or several models, measured alike.

    Args:
        data: the folder of pictures, as it was named.
        settings: (what, text) of how it was measured: pictures, seeds, sampling, features, versions.
        models: one a model.
        command: the command line that repeats it.
    """

    data: str
    settings: tuple[tuple[str, str], ...]
    models: tuple[ModelEvaluation, ...]
    command: str = ""
