"""`captionless assess`: a model and labelled images in, a verdict out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from captionless.cli import measure_options as options
from captionless.cli.console import Watcher, bar, remarks, show
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from captionless.evaluation.assessment.grade import Grade, Verdict
    from captionless.evaluation.metrics import Estimate

DEFAULTS = SamplingConfig()
MAX_COLUMNS = 20
"""Classes up to which the confusion table is printed; of more, only what each was most often recognised as."""
CONFUSED = 3
"""Classes named that a class was most often recognised as."""
COLUMNS = ("class", "recognised", "95% range", "bar", "verdict", "real images", "95% range", "most often confused with")


def assess(
    data: Annotated[
        Path, typer.Option(help="A folder of real images, each class in a sub-folder; the classifier is trained on it.")
    ],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder; without it, the bundled model.")
    ] = "bundled",
    passing: Annotated[
        str,
        typer.Option(
            "--pass",
            metavar="SHARE|ceiling",
            help="The bar of every class: the share of its images that must be recognised; or 'ceiling': the share "
            "of its held-out real images that is recognised.",
        ),
    ] = "0.95",
    n: Annotated[int, typer.Option("-n", help="Images per class.")] = 100,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines with prompt and label. \\[default: the model's classes, or 'a photo of a LABEL']",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the grade into this folder, as grade.json."),
    ] = None,
    labels: options.Labels = None,
    encoder: options.Encoder = None,
    guidance: options.Guidance = DEFAULTS.guidance,
    steps: options.Steps = DEFAULTS.steps,
    sampler: options.Sampler = DEFAULTS.sampler,
    precision: options.Precision = DEFAULTS.precision,
    batch: options.Batch = DEFAULTS.batch,
    seed: options.Seed = 0,
) -> None:
    """Grade a model: a classifier that was trained on real images alone must recognise its images.

    Exit code 0: every class reaches its bar. 1: one does not. 2: no grade could be given.
    """
    chosen: dict[str, Any] = {
        "guidance": guidance,
        "steps": steps,
        "sampler": sampler,
        "precision": precision,
        "batch": batch,
    }
    sampling = SamplingConfig(**chosen)
    wanted = share_of(passing)
    from captionless.evaluation.assessment.run import assess as grade_model

    with bar() as progress, remarks():
        grade = grade_model(
            model,
            data=data,
            prompts=prompts,
            n=n,
            passing=wanted,
            labels=labels,
            encoder=encoder,
            sampling=sampling,
            seed=seed,
            out=out,
            progress=Watcher(progress),
        )
    show("\n".join(lines(grade)))
    if not grade.passed:
        raise typer.Exit(1)


def share_of(passing: str) -> float | Literal["ceiling"]:
    """Return the bar that ``--pass`` names."""
    if passing == "ceiling":
        return "ceiling"
    try:
        return float(passing)
    except ValueError as error:
        raise CaptionlessError(f"--pass must be a share such as 0.95, or ceiling, not {passing!r}.") from error


def lines(grade: Grade) -> list[str]:
    """Return a grade as lines of plain text, the verdict last."""
    n = grade.verdicts[0].recognised.n
    found = [f"{grade.model}, graded on {grade.data}: {n:,} images per class, {grade.settings}.", ""]
    if len(grade.classes) <= MAX_COLUMNS:
        rows = [(one.label, *map(str, row)) for one, row in zip(grade.verdicts, grade.confusion, strict=True)]
        found += [*table_lines(("asked for / recognised as", *grade.classes), rows), ""]
    else:
        found += [f"The confusion table of {len(grade.classes)} classes is too wide to print; --out writes it.", ""]
    found += [*table_lines(COLUMNS, [_row(grade, i) for i in range(len(grade.verdicts))], (0, 4, 7)), ""]
    if grade.real:
        real = f"{_percent(grade.real)} ({_span(grade.real)}) of {grade.real.n:,} held-out real images"
        found.append(f"The classifier itself recognises {real}; each class counts alike.")
    found += [f"left out: {label} ({why})" for label, why in grade.left_out]
    found += [f"note: {note}" for note in grade.notes]
    return [*found, _verdict(grade)]


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]], left: Container[int] = (0,)) -> list[str]:
    """Return a table as lines of text, its columns right-aligned except those numbered ``left``."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=10_000, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _row(grade: Grade, i: int) -> tuple[str, ...]:
    one = grade.verdicts[i]
    wrong = [(n, name) for name, n in zip(grade.classes, grade.confusion[i], strict=True) if n and name != one.label]
    most = sorted(wrong, key=lambda pair: (-pair[0], pair[1]))[:CONFUSED]
    return (
        one.label,
        _percent(one.recognised),
        _span(one.recognised),
        f"{100 * one.bar:.1f}%",
        "pass" if one.passed else f"misses {_by(one)}" if one.bar else "not known",
        f"{_percent(one.real)} of {one.real.n}" if one.real else "none",
        _span(one.real) if one.real else "",
        ", ".join(f"{name} ({n})" for n, name in most),
    )


def _verdict(grade: Grade) -> str:
    bar = "the ceiling" if grade.passing == "ceiling" else f"{100 * float(grade.passing):g}%"
    if grade.passed:
        return f"PASS: each of {len(grade.verdicts)} classes reaches its bar, {bar}."
    failed = ", ".join(f"{one.label} ({_by(one)})" for one in grade.failed)
    miss = "misses its" if len(grade.failed) == 1 else "miss their"
    return f"FAIL: {len(grade.failed)} of {len(grade.verdicts)} classes {miss} bar, {bar}: {failed}."


def _by(one: Verdict) -> str:
    return f"by {100 * one.missing:.1f} points" if one.bar else "the classifier recognises none of its real images"


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:.1f}%"


def _span(one: Estimate) -> str:
    return f"{100 * one.low:.0f} – {100 * one.high:.0f}%"
