"""`captionless train`: a folder of pictures in, a model folder out."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.progress import Progress, TaskID

from captionless.cli.console import bar, remarks, say
from captionless.errors import one_of
from captionless.settings import (
    DEFAULT_MINUTES,
    NETWORKS,
    PREDICTIONS,
    PRESETS,
    SCHEDULES,
    WEIGHTINGS,
    GivenSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from captionless.trainer import Training

DEFAULTS = TrainSettings()
LOG_SECONDS = 60.0
CORE = "Diffusion core"
"""Heading of the options that most trainings leave alone."""


def _default(name: str) -> str:
    # The backslash keeps rich from taking the brackets for markup, and leaving them out.
    return f"\\[default: {getattr(DEFAULTS, name)}]"


def train(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures, in any sub-folders.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    start_from: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Begin with this model's weights and encoder ('bundled')."),
    ] = None,
    enlarge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Learn to enlarge this model's pictures; the two become one model, which paints at --size.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            help=f"Training time in all, over all resumes. \\[default: {DEFAULT_MINUTES:.0f}, unless --images]"
        ),
    ] = None,
    images: Annotated[int | None, typer.Option(help="Pictures to see in all, over all resumes.")] = None,
    size: Annotated[int | None, typer.Option(help=f"Side of the pictures in pixels. {_default('size')}")] = None,
    width: Annotated[
        int | None, typer.Option(help=f"Channels of the finest level; more is slower. {_default('width')}")
    ] = None,
    grey: Annotated[bool | None, typer.Option("--grey", help="Train on grey pictures.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="bundled, a hub id or a folder; auto chooses by the pictures. \\[default: auto]")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Image vectors computed before (needs --encoder).")
    ] = None,
    classes: Annotated[
        bool, typer.Option("--classes", help="Learn classes instead of words: the sub-folders of FOLDER.")
    ] = False,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Learn classes from a table with the header file,label.")
    ] = None,
    hold_out: Annotated[float | None, typer.Option(help="Share of the pictures to set aside, such as 0.1.")] = None,
    batch: Annotated[int | None, typer.Option(help=f"Pictures a step. {_default('batch')}")] = None,
    learning_rate: Annotated[float | None, typer.Option(help=_default("learning_rate"))] = None,
    seed: Annotated[int | None, typer.Option(help=_default("seed"))] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Mirror every other picture; not for letters or maps. \\[default: flip]"),
    ] = None,
    condition_drop: Annotated[
        float | None,
        typer.Option(help=f"Share trained without their vector, for guidance. {_default('condition_drop')}"),
    ] = None,
    condition_cosine: Annotated[
        float | None, typer.Option(help=f"Blur each vector to this cosine with itself. {_default('condition_cosine')}")
    ] = None,
    ema_half_life: Annotated[
        int | None, typer.Option(help=f"Half-life of the averaged weights, in pictures. {_default('ema_half_life')}")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help=f"Dropout in the denoiser. {_default('dropout')}")] = None,
    precision: Annotated[str | None, typer.Option(help=f"auto, float32 or bf16. {_default('precision')}")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="course: what introductory courses train; single settings may still be given.", rich_help_panel=CORE
        ),
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help=f"{', '.join(PREDICTIONS)}. {_default('prediction')}", rich_help_panel=CORE)
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help=f"{', '.join(SCHEDULES)}. {_default('schedule')}", rich_help_panel=CORE)
    ] = None,
    schedule_steps: Annotated[
        int | None,
        typer.Option(help=f"T of the linear schedule. {_default('schedule_steps')}", rich_help_panel=CORE),
    ] = None,
    zero_terminal_snr: Annotated[
        bool | None,
        typer.Option("--zero-terminal-snr", help="End the linear schedule in pure noise.", rich_help_panel=CORE),
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(help=f"Of noise levels: {', '.join(WEIGHTINGS)}. {_default('weighting')}", rich_help_panel=CORE),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help=f"What --condition-drop drops: the vector or each element. {_default('mask')}", rich_help_panel=CORE
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            help=f"Cross-attention to so many tokens of the vector. {_default('tokens')}", rich_help_panel=CORE
        ),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help=f"{' or '.join(NETWORKS)}. {_default('network')}", rich_help_panel=CORE)
    ] = None,
    sample_prompt: Annotated[
        list[str] | None, typer.Option(help="Paint this on the contact sheets; repeatable.")
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            metavar="PICTURES",
            help="Look for likeness and memorisation after every so many pictures seen, and keep the best model in "
            "OUT/best; needs --hold-out.",
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write a TensorBoard log to OUT/log.")
    ] = False,
) -> None:
    """Teach a model to paint what the pictures in FOLDER show.

    Interrupted, the same command with --resume goes on exactly where the last checkpoint was written.
    """
    names = GivenSettings.__annotations__
    given = cast(GivenSettings, {k: v for k, v in locals().items() if k in names and v is not None})
    if preset is not None:
        one_of("preset", preset, tuple(PRESETS))
        given = {**PRESETS[preset], **given}

    from captionless.training import train as train_model

    with bar() as progress, remarks():
        train_model(
            folder,
            out,
            encoder=encoder,
            vectors=vectors,
            classes=classes,
            labels=labels,
            start_from=start_from,
            enlarge=enlarge,
            resume=resume,
            sample_prompts=sample_prompt or [],
            evaluate_every=evaluate_every,
            tensorboard=tensorboard,
            observer=Watcher(progress),
            **given,
        )
    from captionless.checkpoint import load_config
    from captionless.model_card import example

    say(f"Done. Try: captionless generate --model {out} {example(load_config(out))}")


class Watcher:
    """Shows a training on a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}
        self.spoken = time.monotonic()

    def say(self, message: str) -> None:
        """Print a remark above the bar."""
        say(message)

    def reading(self, done: int, total: int) -> None:
        """Show how many pictures have been read and embedded."""
        self._show("Reading pictures", done, total)

    def step(self, training: Training, settings: TrainSettings) -> None:
        """Show how far the training is, in thousandths, with the loss and the pictures seen."""
        from captionless.trainer import progress

        images, loss = training.counter.images, training.counter.loss
        detail = f"{images:,} pictures" + ("" if math.isnan(loss) else f", loss {loss:.4f}")
        self._show("Training", 1000 * progress(training.counter, settings), 1000, detail)

    def _show(self, name: str, done: float, total: int, detail: str = "") -> None:
        if name not in self.tasks:
            for task in self.tasks.values():
                self.progress.update(task, visible=False)
            self.tasks[name] = self.progress.add_task(name, total=total)
        text = f"{name} {detail}".strip()
        self.progress.update(self.tasks[name], completed=done, total=total, description=text)
        # A log file shows no bar; it gets a line now and then.
        if not self.progress.console.is_terminal and time.monotonic() - self.spoken >= LOG_SECONDS:
            self.spoken = time.monotonic()
            say(f"{text}, {done / total:.0%}{_left(self.progress, self.tasks[name])}")


def _left(progress: Progress, task: TaskID) -> str:
    seconds = next(one.time_remaining for one in progress.tasks if one.id == task)
    return "" if seconds is None else f", about {seconds / 60:.0f} minutes left"
