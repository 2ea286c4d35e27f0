"""`captionless evaluate`: models and a folder of images in, a report out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from captionless.cli.console import format_table, print_result, show_progress
from captionless.config.base import Config, setting
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig

if TYPE_CHECKING:
    from captionless.evaluation.report.results import ClassResult


class EvaluateOptions(Config):
    """The inputs and outputs of `captionless evaluate`."""

    models: tuple[str, ...] = setting(
        ("bundled",), "Model folders, side by side; by default the bundled model.", flag="", metavar="MODEL"
    )
    data: Path = setting(..., "A folder of images; those that the model was not trained on count as held out.")
    out: Path = setting(Path("report"), "The folder to write the report into.")
    prompts: Path | None = setting(
        None,
        "Prompts, one per line, or JSON lines with prompt and label.",
        shown="the names of sub-folders",
        metavar="FILE",
    )
    labels: Path | None = setting(
        None, "Labels from a table with the header file,label.", shown="sub-folders", metavar="FILE.csv"
    )
    features: str | None = setting(
        None, "Compare images by any transformers image model.", shown="the model's own encoder", metavar="ID|FOLDER"
    )
    encoder: str | None = setting(None, "Where the models' own encoder is now, if it has moved.", metavar="FOLDER")


def evaluate(options: EvaluateOptions, config: EvaluationConfig, sampling: SamplingConfig) -> None:
    """Measure how good models are, and whether they memorise.

    Writes OUT/index.html, one page that needs nothing else, and OUT/report.json. With --pass the exit code is 1 if the
    images of a class are recognised too rarely.
    """
    with show_progress() as progress:
        from captionless.evaluation.run import evaluate as measure

        report = measure(**dict(options), sampling=sampling, config=config, progress=progress)
    for model in report.models:
        rows = [
            (
                one.label,
                one.number(one.value.value),
                one.span(one.value),
                one.number(one.real.value) if one.real else "",
            )
            for one in model.figures.values()
        ]
        print_result(format_table((model.name, "value", "95% range", "real images"), rows))
        if model.classes:
            print_result("")
            print_result(class_table(model.classes))
            print_result("")
        for section in model.sections:
            for what, why in section.missing:
                print_result(f"left out: {what} ({why})")
        for warning in model.warnings:
            print_result(f"note: {warning}")
        print_result(f"{model.verdict.title}. {model.verdict.meaning}")
        if model.passed is not None:
            failed = [one.label for one in model.classes if not one.passed]
            missed = f"FAIL: {len(failed)} of {len(model.classes)} classes miss their bar: {', '.join(failed)}."
            print_result(missed if failed else f"PASS: each of {len(model.classes)} classes reaches its bar.")
    print_result(options.out / "index.html")
    if any(model.passed is False for model in report.models):
        raise typer.Exit(1)


def class_table(classes: Sequence[ClassResult]) -> str:
    """Return a table of how often the images of each class, and real ones, are recognised."""
    rows = [
        (
            one.label,
            one.recognised.percent,
            "" if one.bar is None else f"{100 * one.bar:.1f}%",
            "" if one.passed is None else "pass" if one.passed else "fail",
            f"{one.real.percent} of {one.real.n}" if one.real else "",
            one.taken_for,
        )
        for one in classes
    ]
    heads = ("class", "recognised (95% range)", "bar", "", "real images (95% range)", "most often taken for")
    return format_table(heads, rows, left=(0, 3, 5))
