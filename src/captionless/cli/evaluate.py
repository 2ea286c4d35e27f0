"""`captionless evaluate`: models and a folder of pictures in, a report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captionless.cli import measure_options as options
from captionless.cli.console import Watcher, bar, remarks, show
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig

if TYPE_CHECKING:
    from captionless.evaluation.report.results import ModelEvaluation, Report

DEFAULTS = SamplingConfig()


def evaluate(
    data: Annotated[
        Path, typer.Option(help="A folder of pictures; those that the model was not trained on count as held out.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Model folders, side by side; without any, the bundled model."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write the report into.")] = Path("report"),
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts, one a line, or JSON lines with prompt and label. \\[default: the names of sub-folders]",
        ),
    ] = None,
    labels: options.Labels = None,
    samples: Annotated[
        int, typer.Option(help="Pictures painted from held-out pictures' vectors, at most; the fewer, the faster.")
    ] = EvaluationConfig().samples,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="ID|FOLDER",
            help="Compare pictures by any transformers image model. \\[default: the model's own encoder]",
        ),
    ] = None,
    encoder: options.Encoder = None,
    guidance: options.Guidance = DEFAULTS.guidance,
    steps: options.Steps = DEFAULTS.steps,
    sampler: options.Sampler = DEFAULTS.sampler,
    precision: options.Precision = DEFAULTS.precision,
    batch: options.Batch = DEFAULTS.batch,
    seed: options.Seed = 0,
) -> None:
    """Measure how good models are, and whether they have merely memorised.

    Writes OUT/index.html, one page that needs nothing else, and OUT/report.json.
    """
    chosen: dict[str, Any] = {"guidance": guidance, "steps": steps, "sampler": sampler, "precision": precision}
    sampling = SamplingConfig(**chosen, batch=batch)
    config = EvaluationConfig(samples=samples, seed=seed)
    from captionless.evaluation.run import evaluate as measure

    with bar() as progress, remarks():
        report = measure(
            models or ["bundled"],
            data=data,
            out=out,
            prompts=prompts,
            labels=labels,
            features=features,
            encoder=encoder,
            sampling=sampling,
            config=config,
            progress=Watcher(progress),
        )
    show("\n".join(lines(report)))
    show(out / "index.html")


def lines(report: Report) -> list[str]:
    """Return the figures as lines of text."""
    return [line for evaluated in report.models for line in _lines(evaluated)]


def _lines(evaluated: ModelEvaluation) -> list[str]:
    from captionless.evaluation.report.format import number, span

    found = [f"{evaluated.name}:"]
    for figure in evaluated.figures.values():
        text = f"  {figure.label:<54} {number(figure.value.value, figure):>7}  ({span(figure.value, figure)})"
        found.append(text + (f"   real: {number(figure.real.value, figure)}" if figure.real else ""))
    found += [f"  left out: {what} ({why})" for section in evaluated.sections for what, why in section.missing]
    found += [f"  note: {warning}" for warning in evaluated.warnings]
    return [*found, f"  {evaluated.verdict.title}. {evaluated.verdict.meaning}"]
