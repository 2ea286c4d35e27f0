"""`captionless evaluate`: models and a folder of pictures in, a report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID

from captionless.cli.console import bar, remarks, say
from captionless.evaluation import SAMPLES
from captionless.sampling import SAMPLERS, Sampling

if TYPE_CHECKING:
    from captionless.evaluation.results import Assessment, Report

DEFAULTS = Sampling()


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
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Labels from a table with the header file,label, not sub-folders."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Pictures painted from held-out pictures' vectors, at most; the fewer, the faster.")
    ] = SAMPLES,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="ID|FOLDER",
            help="Compare pictures by any transformers image model. \\[default: the model's own encoder]",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the models' own encoder lies now, if it has moved.")
    ] = None,
    guidance: Annotated[float, typer.Option(help="w of (1+w)·cond − w·uncond.")] = DEFAULTS.guidance,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = DEFAULTS.steps,
    sampler: Annotated[str, typer.Option(help=f"One of: {', '.join(SAMPLERS)}.")] = DEFAULTS.sampler,
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = DEFAULTS.precision,
    batch: Annotated[int, typer.Option(help="Pictures computed together.")] = DEFAULTS.batch,
    seed: Annotated[int, typer.Option(help="Of noise and choices.")] = 0,
) -> None:
    """Measure how good models are, and whether they have merely memorised.

    Writes OUT/index.html, one page that needs nothing else, and OUT/report.json.
    """
    sampling = Sampling(guidance=guidance, steps=steps, sampler=sampler, precision=precision, batch=batch)
    from captionless.evaluation.measure import evaluate as measure

    with bar() as progress, remarks():
        report = measure(
            models or ["bundled"],
            data=data,
            out=out,
            prompts=prompts,
            labels=labels,
            samples=samples,
            features=features,
            encoder=encoder,
            sampling=sampling,
            seed=seed,
            listener=Watcher(progress),
        )
    print("\n".join(lines(report)))
    print(out / "index.html")


class Watcher:
    """Shows an evaluation on progress bars."""

    def __init__(self, progress: Progress) -> None:
        self.bar = progress
        self.tasks: dict[str, TaskID] = {}

    def say(self, message: str) -> None:
        """Print a remark above the bar."""
        say(message)

    def progress(self, task: str, done: float, total: float) -> None:
        """Show how far a task is; what is finished disappears."""
        if task not in self.tasks:
            self.tasks[task] = self.bar.add_task(task, total=total)
        self.bar.update(self.tasks[task], completed=done, total=total)
        if done >= total:
            self.bar.remove_task(self.tasks.pop(task))


def lines(report: Report) -> list[str]:
    """Return the figures as lines of text."""
    return [line for assessment in report.assessments for line in _lines(assessment)]


def _lines(assessment: Assessment) -> list[str]:
    from captionless.evaluation.numbers import number, span

    found = [f"{assessment.model}:"]
    for figure in assessment.figures.values():
        text = f"  {figure.label:<54} {number(figure.value.value, figure):>7}  ({span(figure.value, figure)})"
        found.append(text + (f"   real: {number(figure.real.value, figure)}" if figure.real else ""))
    found += [f"  left out: {what} ({why})" for section in assessment.sections for what, why in section.missing]
    found += [f"  note: {warning}" for warning in assessment.warnings]
    if assessment.memorises:
        found.append("  This model memorises: it paints copies of training pictures more often than chance explains.")
    return found
