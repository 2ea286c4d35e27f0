"""`captionless assess`: a model and labelled images in, a verdict out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.table import Table

from captionless.cli.console import plain_table, show, show_table, working
from captionless.config.base import Config, setting
from captionless.config.sampling import SamplingConfig

if TYPE_CHECKING:
    from captionless.evaluation.assessment.grade import Grade
    from captionless.evaluation.metrics import Estimate

MAX_COLUMNS = 20
"""Largest number of classes for which the whole confusion table is printed, not only the most frequent confusions."""
CONFUSIONS = 3
"""Number of classes listed that a class was most often confused with."""
COLUMNS = ("class", "recognised (95%)", "bar", "verdict", "real images (95%)", "most often confused with")


class AssessOptions(Config):
    """The inputs and outputs of `captionless assess`."""

    model: str = setting("bundled", "A model folder; by default the bundled model.", flag="", metavar="MODEL")
    data: Path = setting(..., "A folder of real images, each class in a sub-folder; the classifier is trained on them.")
    passing: float | Literal["ceiling"] = setting(
        0.95,
        "The share of each class's images that must be recognised; or 'ceiling': the share of its held-out real images "
        "that the classifier recognises.",
        flag="--pass",
        metavar="SHARE|ceiling",
    )
    n: int = setting(100, "Images per class.", flag="-n")
    prompts: Path | None = setting(
        None, "JSON lines with prompt and label.", shown="the model's classes, or 'a photo of a LABEL'", metavar="FILE"
    )
    out: Path | None = setting(None, "Write the grade into this folder, as grade.json.")
    labels: Path | None = setting(
        None, "Labels from a table with the header file,label.", shown="sub-folders", metavar="FILE.csv"
    )
    encoder: str | None = setting(None, "Where the model's own encoder is now, if it has moved.", metavar="FOLDER")
    seed: int = setting(0, "Seed of the noise, and of the classifier.")


def assess(options: AssessOptions, sampling: SamplingConfig) -> None:
    """Test whether a classifier, trained on real images alone, recognises what a model generates.

    Exit code 0: every class reaches its bar. 1: one does not. 2: no grade could be given.
    """
    with working() as progress:
        from captionless.evaluation.assessment.run import assess as grade_model

        grade = grade_model(**dict(options), sampling=sampling, progress=progress)
    n = grade.verdicts[0].recognised.n
    show(f"{grade.model}, graded on {grade.data}: {n:,} images per class, {grade.settings}.\n")
    if len(grade.classes) <= MAX_COLUMNS:
        show_table(confusion_table(grade))
        show("")
    show_table(class_table(grade))
    show("")
    if grade.real:
        real = f"{_percent(grade.real)} of {grade.real.n:,} held-out real images"
        show(f"The classifier itself recognises {real}; each class counts alike.")
    if grade.left_out:
        show(f"left out: {', '.join(grade.left_out)}")
    show(conclusion(grade))
    if not grade.passed:
        raise typer.Exit(1)


def confusion_table(grade: Grade) -> Table:
    """Return how many images of each class (rows) the classifier recognised as each class (columns)."""
    rows = [(one.label, *map(str, row)) for one, row in zip(grade.verdicts, grade.confusion, strict=True)]
    return plain_table(("requested / recognised as", *grade.classes), rows)


def class_table(grade: Grade) -> Table:
    """Return a table of how well generated and real images of each class are recognised."""
    rows = []
    for one, counts in zip(grade.verdicts, grade.confusion, strict=True):
        wrong = [(-n, name) for name, n in zip(grade.classes, counts, strict=True) if n and name != one.label]
        rows.append(
            (
                one.label,
                _percent(one.recognised),
                f"{100 * one.bar:.1f}%",
                "pass" if one.passed else "fail",
                f"{_percent(one.real)} of {one.real.n}" if one.real else "none",
                ", ".join(f"{name} ({-n})" for n, name in sorted(wrong)[:CONFUSIONS]),
            )
        )
    return plain_table(COLUMNS, rows, left=(0, 3, 5))


def conclusion(grade: Grade) -> str:
    """Return the verdict in one line."""
    bar = "the ceiling" if grade.passing == "ceiling" else f"{100 * float(grade.passing):g}%"
    if grade.passed:
        return f"PASS: each of {len(grade.verdicts)} classes reaches its bar, {bar}."
    failed = ", ".join(one.label for one in grade.failed)
    return f"FAIL: {len(grade.failed)} of {len(grade.verdicts)} classes below the bar, {bar}: {failed}."


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:.1f}% ({100 * one.low:.0f} – {100 * one.high:.0f})"
