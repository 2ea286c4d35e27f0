"""`captionless train`: a folder of pictures in, a model folder out."""

from __future__ import annotations

from typing import cast

from captionless.cli import train_options as options
from captionless.cli.console import Watcher, bar, remarks, say
from captionless.config.options import TrainOptions
from captionless.config.training import PRESETS
from captionless.errors import one_of


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
    track: options.Track = None,
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
            track=track,
            progress=Watcher(progress),
            **given,
        )
    from captionless.checkpoints.card import example_request
    from captionless.checkpoints.config import load_config

    say(f"Done. Try: captionless generate --model {out} {example_request(load_config(out))}")
