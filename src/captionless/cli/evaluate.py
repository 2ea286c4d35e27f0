"""`captionless evaluate`: models and a folder of images in, a report out."""

from __future__ import annotations

from pathlib import Path

from captionless.cli.console import plain_table, show, show_table, working
from captionless.config.base import Config, setting
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig


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

    Writes OUT/index.html, one page that needs nothing else, and OUT/report.json.
    """
    with working() as progress:
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
        show_table(plain_table((model.name, "value", "95% range", "real images"), rows))
        for section in model.sections:
            for what, why in section.missing:
                show(f"left out: {what} ({why})")
        for warning in model.warnings:
            show(f"note: {warning}")
        show(f"{model.verdict.title}. {model.verdict.meaning}")
    show(options.out / "index.html")
