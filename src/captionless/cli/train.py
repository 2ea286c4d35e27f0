"""`captionless train`: a folder of pictures in, a model folder out."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, cast

from rich.progress import Progress, TaskID

from captionless.cli import train_options as options
from captionless.cli.console import bar, remarks, say
from captionless.config.options import TrainOptions
from captionless.config.training import PRESETS, TrainConfig
from captionless.errors import one_of

if TYPE_CHECKING:
    from captionless.training.loop import Training

LOG_SECONDS = 60.0


def train(
    folder: options.Folder,
    out: options.Out,
    start_from: options.From = None,
    enlarge: options.Enlarge = None,
    resume: options.Resume = False,
    minutes: options.Minutes = None,
    images: options.Images = None,
    size: options.Size = None,
    width: options.Width = None,
    grey: options.Grey = None,
    encoder: options.Encoder = None,
    vectors: options.Vectors = None,
    classes: options.Classes = False,
    labels: options.Labels = None,
    hold_out: options.HoldOut = None,
    batch: options.Batch = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = None,
    flip: options.Flip = None,
    condition_drop: options.ConditionDrop = None,
    condition_cosine: options.ConditionCosine = None,
    ema_half_life: options.EmaHalfLife = None,
    dropout: options.Dropout = None,
    precision: options.Precision = None,
    preset: options.Preset = None,
    prediction: options.Prediction = None,
    schedule: options.Schedule = None,
    schedule_steps: options.ScheduleSteps = None,
    zero_terminal_snr: options.ZeroTerminalSnr = None,
    weighting: options.Weighting = None,
    mask: options.Mask = None,
    tokens: options.Tokens = None,
    network: options.Network = None,
    sample_prompt: options.SamplePrompts = None,
    evaluate_every: options.EvaluateEvery = None,
    tensorboard: options.Tensorboard = False,
) -> None:
    """Teach a model to paint what the pictures in FOLDER show.

    Interrupted, the same command with --resume goes on exactly where the last checkpoint was written.
    """
    names = TrainOptions.__annotations__
    given = cast(TrainOptions, {k: v for k, v in locals().items() if k in names and v is not None})
    if preset is not None:
        one_of("preset", preset, tuple(PRESETS))
        given = {**PRESETS[preset], **given}

    from captionless.training.run import train as train_model

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
    from captionless.checkpoints.card import example_request
    from captionless.checkpoints.config import load_config

    say(f"Done. Try: captionless generate --model {out} {example_request(load_config(out))}")


class Watcher:
    """Shows a training on a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}
        self.spoken = time.monotonic()

    def say(self, message: str) -> None:
        """Print a remark above the bar."""
        say(message)

    def advance(self, task: str, done: int, total: int) -> None:
        """Show how far a task is."""
        self._show(task, done, total)

    def step(self, training: Training, settings: TrainConfig) -> None:
        """Show how far the training is, in thousandths, with the loss and the pictures seen."""
        from captionless.training.loop import progress

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
