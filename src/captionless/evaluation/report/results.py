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
        reasons: for ``memorisation``: why the result is inconclusive.
    """

    key: str
    figures: tuple[Figure, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    grids: tuple[ImageGrid, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """The verdict on memorisation: its kind (``good``, ``bad`` or ``unknown``), a title and a sentence."""

    kind: str
    title: str
    meaning: str


FLAGGED = Verdict(
    "bad", "Memorisation flagged", "More of its images are near-copies of training images than chance explains."
)
NOT_FLAGGED = Verdict(
    "good", "Memorisation not flagged", "No more of its images are near-copies of training images than chance explains."
)
NOT_MEASURED = Verdict("unknown", "Memorisation not measured", "Whether its images are copies is not known.")


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
    def reasons(self) -> tuple[str, ...]:
        """Reasons why the memorisation test was inconclusive, if it was run."""
        return tuple(reason for section in self.sections for reason in section.reasons)

    @property
    def verdict(self) -> Verdict:
        """The verdict on memorisation."""
        if self.memorises is not None:
            return FLAGGED if self.memorises else NOT_FLAGGED
        if "memorised" not in self.figures and "memorised_own" not in self.figures:
            return NOT_MEASURED
        meaning = "No more near-copies were found than chance explains, but copies may have been missed"
        because = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return Verdict("unknown", "Memorisation inconclusive", f"{meaning}{because}.")


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
