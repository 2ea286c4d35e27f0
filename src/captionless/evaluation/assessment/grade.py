"""What an assessment found: plain values, from which the verdict follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image
from torch import Tensor

from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.metrics import Estimate, share

CEILING: Literal["ceiling"] = "ceiling"
"""The bar that asks no more of a class than real pictures of it reach."""

Passing = float | Literal["ceiling"]


@dataclass(frozen=True)
class Verdict:
    """How well one class is painted.

    Args:
        label: the class.
        prompts: what the model was asked.
        recognised: the share of its pictures that the classifier names as this class, with Wilson's 95% range.
        real: the same of real pictures that the classifier was not trained on; None without any.
        bar: the share that passes. A bar of 0 (a class that the classifier never knows) is passed by nothing.
    """

    label: str
    prompts: tuple[str, ...]
    recognised: Estimate
    real: Estimate | None
    bar: float

    @property
    def passed(self) -> bool:
        """Whether it is recognised at least as often as the bar asks."""
        return self.recognised.value >= self.bar > 0

    @property
    def missing(self) -> float:
        """By how large a share it fails; 0 where it passes."""
        return max(0.0, self.bar - self.recognised.value)


@dataclass(frozen=True)
class Mistake:
    """A picture that the classifier took for another class.

    Args:
        label: what it was to show.
        seen: what the classifier names it.
        prompt: what the model was asked; with ``seed`` and the same settings, ``generate`` paints it again.
        seed: of its noise.
        image: the picture.
    """

    label: str
    seen: str
    prompt: str
    seed: int
    image: Image.Image = field(repr=False, compare=False)


@dataclass(frozen=True)
class Grade:
    """A model's grade. Get one from ``captionless.assess``.

    Args:
        model: its name, as it was asked for.
        data: the folder of real pictures.
        settings: how pictures were drawn, in words.
        passing: the share asked of every class, or ``CEILING``.
        classes: the labels that the classifier knows: the columns of ``confusion``.
        verdicts: one a graded class: the rows.
        confusion: how many pictures of each graded class (rows) it took for each class (columns).
        real: the classifier's accuracy on real pictures that it was not trained on, the graded classes counting alike;
            None without any.
        left_out: (class, why) of what could not be graded.
        notes: what to keep in mind.
        mistakes: the pictures that were not recognised.
        judge: the classifier, to grade other models by.
    """

    model: str
    data: str
    settings: str
    passing: Passing
    classes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    confusion: tuple[tuple[int, ...], ...]
    real: Estimate | None
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = field(default=(), repr=False)
    judge: ReferenceClassifier | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every graded class passes."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The classes that do not."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)


def verdicts(
    judge: ReferenceClassifier, asked: Mapping[str, Sequence[str]], table: Tensor, passing: Passing
) -> tuple[Verdict, ...]:
    """Return what a table of confusion says of each class asked for.

    Args:
        judge: the classifier.
        asked: for each class in turn, the prompts that asked for it.
        table: pictures of each class of ``asked`` (rows) named as each of the judge's (columns), (rows, columns).
        passing: the share asked of every class; with ``CEILING``, of each that of its real pictures (none: all).
    """
    found = []
    for (label, texts), row in zip(asked.items(), table.tolist(), strict=True):
        place = judge.classes.index(label)
        real = judge.by_class[place]
        bar = passing if passing != CEILING else real.value if real else 1.0
        found.append(Verdict(label, tuple(texts), share(row[place], sum(row)), real, bar))
    return tuple(found)
