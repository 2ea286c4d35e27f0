"""The results of an evaluation as plain dataclasses, for the page and ``report.json``."""

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
        key: key in ``report.json``, such as ``kid``; the same for every model.
        label: name for display.
        value: the measured value.
        real: the same figure for real images (held-out halves, the classifier's ceiling, …); None if not available.
        better: ``higher`` or ``lower``.
        percent: whether to show the value as a percentage.
        digits: number of decimal places shown.
        explanation: one or two sentences in plain language.
        marks: (description, value) of further points of comparison, such as real images with a little noise.
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
        """Format a value with the figure's decimal places and percent sign, such as ``62.3%`` or ``−0.4``."""
        text = f"{value * 100 if self.percent else value:z,.{self.digits}f}"
        return text.replace("-", "−") + ("%" if self.percent else "")

    def span(self, estimate: Estimate) -> str:
        """Format a 95% range, such as ``10.1 – 14.5``."""
        return f"{self.number(estimate.low)} – {self.number(estimate.high)}"


@dataclass(frozen=True)
class ClassResult:
    """How often the reference classifier recognises the images of one class.

    Args:
        label: the class name.
        recognised: share of the generated images that are recognised as this class, with Wilson's 95% interval.
        real: the same share for held-out real images; None if there are none.
        mistaken: number of generated images classified as each other class, most frequent first.
        bar: pass/fail threshold for the recognised share; None if no threshold was set. A threshold of 0, which means
            that the classifier never recognises the class, cannot be passed.
    """

    label: str
    recognised: Estimate
    real: Estimate | None
    mistaken: dict[str, int]
    bar: float | None = None

    @property
    def taken_for(self) -> str:
        """The three classes that samples of this class are most often mistaken for, with counts, as text."""
        return ", ".join(f"{label} ({n})" for label, n in list(self.mistaken.items())[:3])

    @property
    def passed(self) -> bool | None:
        """Whether the recognised share reaches the threshold ``bar``; None if there is no threshold."""
        return None if self.bar is None else self.recognised.value >= self.bar > 0


class ImageGrid(NamedTuple):
    """A grid of images with a title and an optional note."""

    title: str
    image: Image.Image
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of an evaluation.

    Args:
        key: ``text_alignment``, ``fidelity`` or ``memorisation``.
        figures: the measured figures.
        missing: (name, reason) of each figure, or of the whole section, that was not measured.
        grids: image grids to show.
        notes: sentences on the method, and caveats.
        classes: results by class, in ``text_alignment`` only.
        reasons: reasons why the result is inconclusive, in ``memorisation`` only.
    """

    key: str
    figures: tuple[Figure, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    grids: tuple[ImageGrid, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[ClassResult, ...] = ()
    reasons: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """The verdict on memorisation, with a kind (``good``, ``bad`` or ``unknown``), a title and a sentence."""

    kind: str
    title: str
    meaning: str


@dataclass(frozen=True)
class ModelEvaluation:
    """The results of one model.

    Args:
        name: the name of the model as passed by the caller.
        facts: facts about the model and its training, by label.
        sections: the sections of the evaluation, in display order.
        warnings: caveats that affect how the figures can be interpreted.
        memorises: True if memorisation is flagged, False if it is not, None if the result is inconclusive.
    """

    name: str
    facts: dict[str, str]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    memorises: bool | None = None

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures of the model, by key."""
        return {figure.key: figure for section in self.sections for figure in section.figures}

    @property
    def classes(self) -> tuple[ClassResult, ...]:
        """The results of each class."""
        return tuple(one for section in self.sections for one in section.classes)

    @property
    def passed(self) -> bool | None:
        """Whether every class passes; None if no pass/fail threshold was set."""
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
            return Verdict(
                "unknown", "Memorisation not measured", "It is unknown whether the model's images are copies."
            )
        because = f": {'; '.join(self.reasons)}" if self.reasons else ""
        meaning = f"No more {chance}, but copies may have been missed{because}."
        return Verdict("unknown", "Memorisation inconclusive", meaning)


@dataclass(frozen=True)
class Report:
    """The results of one or more models, measured with the same settings.

    Args:
        data: the folder of images as passed by the caller.
        settings: the settings of the evaluation (sampling, seed, features, versions), by label.
        models: the results of each model.
    """

    data: str
    settings: dict[str, str]
    models: tuple[ModelEvaluation, ...]
