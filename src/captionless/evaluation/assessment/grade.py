"""The grade of a model: plain values, from which the verdict follows, in Python and in ``grade.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from captionless.evaluation.classifier.reference import ReferenceClassifier
from captionless.evaluation.metrics.estimate import Estimate, share
from captionless.files import atomic_write

CEILING: Literal["ceiling"] = "ceiling"
"""The bar that asks of each class only the share of its real images that the classifier recognises."""

Passing = float | Literal["ceiling"]

FILE = "grade.json"
FORMAT = 3
"""Of ``grade.json``; incremented when a name or a meaning in it changes."""


@dataclass(frozen=True)
class Verdict:
    """The result of one class.

    Args:
        label: the class.
        prompts: the prompts that the images were generated from.
        recognised: share of its images that the classifier recognises as this class, with Wilson's 95% interval.
        real: the same share of held-out real images; None without any.
        bar: the share that passes. Nothing passes a bar of 0, that of a class that the classifier never recognises.
    """

    label: str
    prompts: tuple[str, ...]
    recognised: Estimate
    real: Estimate | None
    bar: float

    @property
    def passed(self) -> bool:
        """True if the recognised share reaches the bar."""
        return self.recognised.value >= self.bar > 0


@dataclass(frozen=True)
class Grade:
    """A model's grade. Get one from ``captionless.assess``.

    Args:
        model: the model, as it was named in the call.
        data: the folder of real images.
        settings: how images were generated, in words.
        passing: the share required of every class, or ``CEILING``.
        classes: the classifier's labels, the columns of ``confusion``.
        verdicts: one per graded class, the rows of ``confusion``.
        confusion: how many images of each graded class were recognised as each of ``classes``.
        real: the classifier's accuracy on held-out real images, each graded class counting alike; None without any.
        left_out: classes that were not graded, because the model, the folder or the prompts lack them.
        classifier: the classifier, to grade other models with.
    """

    model: str
    data: str
    settings: str
    passing: Passing
    classes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    confusion: tuple[tuple[int, ...], ...]
    real: Estimate | None
    left_out: tuple[str, ...] = ()
    classifier: ReferenceClassifier | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """True if every graded class passes."""
        return not self.failed

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The classes that do not pass."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    def as_json(self) -> dict[str, Any]:
        """Return the grade as ``grade.json`` holds it: ``format``, ``passed`` and all fields but the classifier.

        Each of ``verdicts`` has ``passed`` too. An estimate is ``{"value", "low", "high", "n"}``: a share from 0 to 1,
        its 95% range, the images it rests on.
        """
        fields = asdict(replace(self, classifier=None))
        del fields["classifier"]
        for verdict, values in zip(self.verdicts, fields["verdicts"], strict=True):
            values["passed"] = verdict.passed
        return {"format": FORMAT, "passed": self.passed, **fields}


def verdicts(
    classifier: ReferenceClassifier, prompts: Mapping[str, Sequence[str]], confusion: Tensor, passing: Passing
) -> tuple[Verdict, ...]:
    """Return the verdict on each class.

    Args:
        classifier: the reference classifier.
        prompts: for each graded class, the prompts it was generated from.
        confusion: images of each class of ``prompts`` (rows) recognised as each of the classifier's (columns).
        passing: the share required of every class; with ``CEILING``, the share recognised of the class's real images
            (1 if it was not tested on any).
    """
    found = []
    for (label, texts), row in zip(prompts.items(), confusion.tolist(), strict=True):
        index = classifier.classes.index(label)
        real = classifier.by_class[index]
        bar = passing if passing != CEILING else real.value if real else 1.0
        found.append(Verdict(label, tuple(texts), share(row[index], sum(row)), real, bar))
    return tuple(found)


def write_grade(out: Path, grade: Grade) -> Path:
    """Write ``grade.json`` into a folder, in place of an earlier one; return its path.

    Raises:
        CaptionlessError: the folder cannot be written to.
    """
    with atomic_write(out / FILE) as path:
        path.write_text(json.dumps(grade.as_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return out / FILE
