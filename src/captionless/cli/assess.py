"""`captionless assess`: a model and labelled pictures in, a verdict out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.cells import cell_len

from captionless.cli import measure_options as options
from captionless.cli.console import Watcher, bar, remarks, show
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from captionless.evaluation.assessment.grade import Grade, Verdict
    from captionless.evaluation.metrics import Estimate

DEFAULTS = SamplingConfig()
WIDEST = 20
"""Classes that the table of confusion is printed for, at most; with more of them, only what each was taken for most."""
CONFUSED = 3
"""Classes named that a class was most often taken for."""


def assess(
    data: Annotated[
        Path, typer.Option(help="A folder of real pictures, each class in a sub-folder; the classifier learns from it.")
    ],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder; without it, the bundled model.")
    ] = "bundled",
    passing: Annotated[
        str,
        typer.Option(
            "--pass",
            metavar="SHARE|ceiling",
            help="The bar of every class: the share of its pictures to be recognised; or 'ceiling': the share of its "
            "held-out real pictures that the classifier recognises.",
        ),
    ] = "0.95",
    n: Annotated[int, typer.Option("-n", help="Pictures a class.")] = 100,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines with prompt and label. \\[default: the model's classes, or 'a photo of a LABEL']",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write grade.json and a sheet of the pictures that were not recognised into this folder."),
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
    """Grade a model: a classifier, trained on real pictures alone, must recognise what it paints.

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
    found = [f"{grade.model}, graded on {grade.data}: {n:,} pictures a class, {grade.settings}.", ""]
    if len(grade.classes) <= WIDEST:
        found += [*aligned(_table(grade)), ""]
    else:
        many = f"The table of confusion of {len(grade.classes)} classes is too wide to print"
        found += [f"{many}; --out writes the whole of it.", ""]
    found += [*aligned(_classes(grade), (0, 4, 7)), ""]
    if grade.real:
        found.append(
            f"The classifier itself recognises {_percent(grade.real)} ({_span(grade.real)}) of {grade.real.n:,} real "
            "pictures that it was not trained on; each class above counts alike."
        )
    found += [f"left out: {label} ({why})" for label, why in grade.left_out]
    found += [f"note: {note}" for note in grade.notes]
    return [*found, _verdict(grade)]


def aligned(rows: Iterable[Sequence[str]], left: Container[int] = (0,)) -> list[str]:
    """Set texts in columns: those numbered ``left`` to the left, the others to the right."""
    rows = list(rows)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]

    def cell(i: int, text: str) -> str:
        space = " " * (widths[i] - cell_len(text))
        return text + space if i in left else space + text

    return ["  ".join(cell(i, text) for i, text in enumerate(row)).rstrip() for row in rows]


def _table(grade: Grade) -> Iterator[tuple[str, ...]]:
    yield ("asked for / seen as", *grade.classes)
    for verdict, row in zip(grade.verdicts, grade.confusion, strict=True):
        yield (verdict.label, *map(str, row))


def _classes(grade: Grade) -> Iterator[tuple[str, ...]]:
    yield ("class", "recognised", "95% range", "bar", "verdict", "real pictures", "95% range", "most often taken for")
    for verdict, row in zip(grade.verdicts, grade.confusion, strict=True):
        real = verdict.real
        wrong = [(count, name) for name, count in zip(grade.classes, row, strict=True) if name != verdict.label]
        most = sorted((one for one in wrong if one[0]), key=lambda one: (-one[0], one[1]))[:CONFUSED]
        yield (
            verdict.label,
            _percent(verdict.recognised),
            _span(verdict.recognised),
            f"{100 * verdict.bar:.1f}%",
            "pass" if verdict.passed else f"misses by {_points(verdict)}" if verdict.bar else "not known",
            f"{_percent(real)} of {real.n}" if real else "none",
            _span(real) if real else "",
            ", ".join(f"{name} ({count})" for count, name in most),
        )


def _verdict(grade: Grade) -> str:
    bar = "the ceiling" if grade.passing == "ceiling" else f"{100 * float(grade.passing):g}%"
    if grade.passed:
        return f"PASS: each of {len(grade.verdicts)} classes reaches its bar, {bar}."
    failed = ", ".join(f"{one.label} ({_failure(one)})" for one in grade.failed)
    miss = "misses its" if len(grade.failed) == 1 else "miss their"
    return f"FAIL: {len(grade.failed)} of {len(grade.verdicts)} classes {miss} bar, {bar}: {failed}."


def _failure(verdict: Verdict) -> str:
    return f"by {_points(verdict)}" if verdict.bar else "the classifier recognises none of its real pictures"


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:.1f}%"


def _span(one: Estimate) -> str:
    return f"{100 * one.low:.0f} – {100 * one.high:.0f}%"


def _points(verdict: Verdict) -> str:
    return f"{100 * verdict.missing:.1f} points"
