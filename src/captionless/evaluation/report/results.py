"""The results of an evaluation as plain values, which the page shows and ``report.json`` keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from captionless.evaluation.metrics.estimate import Estimate

ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Figure:
    """One measured figure of one model.

    Args:
        key: its name in ``report.json``, such as ``kid``; the same for every model.
        label: its name for people.
        value: what was measured.
        real: the same figure of real images (held-out halves, the classifier's ceiling …); None without any.
        better: ``higher`` or ``lower``.
        percent: shown as a percentage.
        digits: decimal places shown.
        explanation: one or two sentences in plain words.
        marks: (what, value) of points of comparison, such as real images with a little noise.
    """

    key: str
    label: str
    value: Estimate
    real: Estimate | None = None
    better: str = "higher"
    percent: bool = False
    digits: int = 1
    explanation: str = ""
    marks: tuple[tuple[str, Estimate], ...] = ()

    def number(self, value: float) -> str:
        """Format a value with the figure's decimal places, as a percentage where it is one: ``62.3%``, ``−0.4``."""
        text = f"{value * 100 if self.percent else value:z,.{self.digits}f}"
        return text.replace("-", "−") + ("%" if self.percent else "")

    def span(self, estimate: Estimate) -> str:
        """Format a 95% range: ``10.1 – 14.5``."""
        return f"{self.number(estimate.low)} – {self.number(estimate.high)}"


@dataclass(frozen=True)
class ClassResult:
    """How often the reference classifier recognises the images of one class.

    Args:
        label: the class.
        recognised: share of its images that the classifier recognises as this class, with Wilson's 95% interval.
        real: the same share of held-out real images; None without any.
        mistaken: how many of its images were taken for each other class, the most frequent first.
        bar: the share that passes; None if no pass or fail was asked for. Nothing passes a bar of 0, that of a class
            that the classifier never recognises.
    """

    label: str
    recognised: Estimate
    real: Estimate | None
    mistaken: dict[str, int]
    bar: float | None = None

    @property
    def taken_for(self) -> str:
        """The three classes that it was most often taken for, as text."""
        return ", ".join(f"{label} ({n})" for label, n in list(self.mistaken.items())[:3])

    @property
    def passed(self) -> bool | None:
        """Whether the recognised share reaches the bar; None without a bar."""
        return None if self.bar is None else self.recognised.value >= self.bar > 0


class ImageGrid(NamedTuple):
    """A grid of images, with a title above it and a note (perhaps empty) below it."""

    title: str
    image: Image.Image
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of an evaluation.

    Args:
        key: ``text_alignment``, ``fidelity`` or ``memorisation``.
        figures: what was measured.
        missing: (what, why) of each figure, or of the whole section, that was not measured.
        grids: images to look at.
        notes: sentences on how it was measured, or caveats.
        classes: for ``text_alignment``: how often each class is recognised.
        reasons: for ``memorisation``: why the result is inconclusive.
    """

    key: str
    figures: tuple[Figure, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    grids: tuple[ImageGrid, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[ClassResult, ...] = ()
    reasons: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """The verdict on memorisation: its kind (``good``, ``bad`` or ``unknown``), a title and a sentence."""

    kind: str
    title: str
    meaning: str


@dataclass(frozen=True)
class ModelEvaluation:
    """The results of one model.

    Args:
        name: the model, as it was named in the call.
        facts: what it is and how it was trained.
        sections: the parts of the evaluation, in the order they are shown.
        warnings: what a reader must know before trusting a figure.
        memorises: True where memorisation is flagged, False where it is not, None where that is inconclusive.
    """

    name: str
    facts: dict[str, str]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    memorises: bool | None = None

    @property
    def figures(self) -> dict[str, Figure]:
        """All its figures, by key."""
        return {figure.key: figure for section in self.sections for figure in section.figures}

    @property
    def classes(self) -> tuple[ClassResult, ...]:
        """How often the images of each class are recognised."""
        return tuple(one for section in self.sections for one in section.classes)

    @property
    def passed(self) -> bool | None:
        """Whether every class passes; None if no pass or fail was asked for."""
        verdicts = [one.passed for one in self.classes]
        return None if not verdicts or None in verdicts else all(verdicts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons why the memorisation test was inconclusive, if it was run."""
        return tuple(reason for section in self.sections for reason in section.reasons)

    @property
    def verdict(self) -> Verdict:
        """The verdict on memorisation."""
        chance = "of its images are near-copies of training images than chance explains"
        if self.memorises is not None:
            return (
                Verdict("bad", "Memorisation flagged", f"More {chance}.")
                if self.memorises
                else Verdict("good", "Memorisation not flagged", f"No more {chance}.")
            )
        if not {"memorised", "memorised_own"} & set(self.figures):
            return Verdict("unknown", "Memorisation not measured", "Whether its images are copies is not known.")
        because = f": {'; '.join(self.reasons)}" if self.reasons else ""
        meaning = f"No more {chance}, but copies may have been missed{because}."
        return Verdict("unknown", "Memorisation inconclusive", meaning)


@dataclass(frozen=True)
class Report:
    """The results of one or several models, measured alike.

    Args:
        data: the folder of images, as it was named in the call.
        settings: how it was measured: sampling, seed, features, versions.
        models: one per model.
    """

    data: str
    settings: dict[str, str]
    models: tuple[ModelEvaluation, ...]
