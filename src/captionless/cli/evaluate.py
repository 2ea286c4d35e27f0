"""`captionless evaluate`: evaluate models on a folder of images and write a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from captionless.cli.console import FLAGS, format_table, print_result, show_progress, with_flags
from captionless.cli.threads import ThreadOptions
from captionless.config.base import Config, setting
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.device import use_threads
from captionless.errors import harmless

if TYPE_CHECKING:
    from captionless.evaluation.report.results import ClassResult


class EvaluateOptions(Config):
    """The inputs and outputs of `captionless evaluate`."""

    models: tuple[str, ...] = setting(
        ("bundled",),
        "The models to compare: folders, 'bundled', or user/repo[@revision] on the Hub.",
        flag="",
        metavar="MODEL",
    )
    data: Path = setting(..., "A folder of images; images that the model was not trained on count as held out.")
    out: Path = setting(Path("report"), "The output folder of the report.")
    prompts: Path | None = setting(
        None,
        "A file of prompts, one per line, or JSON lines with the keys prompt and label.",
        shown="the names of sub-folders",
        metavar="FILE",
    )
    labels: Path | None = setting(
        None, "A table of labels with the header file,label.", shown="sub-folders", metavar="FILE.csv"
    )
    features: str | None = setting(
        None,
        "A transformers image model whose features are used to compare images.",
        shown="the model's own encoder",
        metavar="ID|FOLDER",
    )
    encoder: str | None = setting(None, "The new location of the models' encoder, if it was moved.", metavar="FOLDER")


def evaluate(
    options: EvaluateOptions, config: EvaluationConfig, sampling: SamplingConfig, threads: ThreadOptions
) -> None:
    """Measure the quality of models, and whether they memorise their training images.

    Writes OUT/index.html, a self-contained page, and OUT/report.json. With --pass, the exit code is 1 if a class is
    recognised too rarely.
    """
    use_threads(threads.threads)
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
                print_result(harmless(with_flags(f"not measured: {what} ({why})", FLAGS)))
        for warning in model.warnings:
            print_result(with_flags(f"note: {warning}", FLAGS))
        print_result(f"{model.verdict.title}. {model.verdict.meaning}")
        if model.passed is not None:
            failed = [one.label for one in model.classes if not one.passed]
            missed = harmless(
                f"FAIL: {len(failed)} of {len(model.classes)} classes are below their threshold: {', '.join(failed)}."
            )
            print_result(
                harmless(missed) if failed else f"PASS: all {len(model.classes)} classes reach their threshold."
            )
    print_result(options.out / "index.html")
    if any(model.passed is False for model in report.models):
        raise typer.Exit(1)


def class_table(classes: Sequence[ClassResult]) -> str:
    """Format a table of how often the classifier recognises the sampled and the real images of each class."""
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
    heads = ("class", "recognised (95% range)", "threshold", "", "real images (95% range)", "most often taken for")
    return format_table(heads, rows, left=(0, 3, 5))
