"""The options of `captionless train`, and what its help says of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captionless.config.training import (
    DEFAULT_MINUTES,
    NETWORKS,
    PREDICTIONS,
    SCHEDULES,
    SUPER_RESOLUTION_WEIGHTING,
    TRACKERS,
    WEIGHTINGS,
    TrainConfig,
)

DEFAULTS = TrainConfig()
CORE = "Diffusion core"
"""Heading of the options that most trainings leave alone."""


def _default(name: str, also: str = "") -> str:
    # The backslash keeps rich from taking the brackets for markup, and leaving them out.
    return f"\\[default: {getattr(DEFAULTS, name)}{also}]"


Folder = Annotated[Path, typer.Argument(help="A folder of pictures, in any sub-folders.")]
Out = Annotated[Path, typer.Option(help="The model folder to write.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="MODEL", help="Begin with this model's weights and encoder ('bundled')."),
]
Enlarge = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Learn to enlarge this model's pictures; the two become one model, which paints at --size.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")]
Minutes = Annotated[
    float | None,
    typer.Option(help=f"Training time in all, over all resumes. \\[default: {DEFAULT_MINUTES:.0f}, unless --images]"),
]
Images = Annotated[int | None, typer.Option(help="Pictures to see in all, over all resumes.")]
Size = Annotated[
    int | None,
    typer.Option(help=f"Side of the pictures in pixels. {_default('size', '; with --enlarge twice as many')}"),
]
Width = Annotated[int | None, typer.Option(help=f"Channels of the finest level; more is slower. {_default('width')}")]
Grey = Annotated[bool | None, typer.Option("--grey", help="Train on grey pictures.")]
Encoder = Annotated[
    str | None, typer.Option(help="bundled, a hub id or a folder; auto chooses by the pictures. \\[default: auto]")
]
Vectors = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="Image vectors computed before (needs --encoder).")
]
Classes = Annotated[bool, typer.Option("--classes", help="Learn classes instead of words: the sub-folders of FOLDER.")]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="Learn classes from a table with the header file,label.")
]
HoldOut = Annotated[float | None, typer.Option(help="Share of the pictures to set aside, such as 0.1.")]
Batch = Annotated[int | None, typer.Option(help=f"Pictures a step. {_default('batch')}")]
LearningRate = Annotated[float | None, typer.Option(help=_default("learning_rate"))]
Seed = Annotated[int | None, typer.Option(help=_default("seed"))]
Flip = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Mirror every other picture; not for letters or maps. \\[default: flip]"),
]
ConditionDrop = Annotated[
    float | None,
    typer.Option(help=f"Share trained without their vector, for guidance. {_default('condition_drop')}"),
]
ConditionCosine = Annotated[
    float | None, typer.Option(help=f"Blur each vector to this cosine with itself. {_default('condition_cosine')}")
]
EmaHalfLife = Annotated[
    int | None, typer.Option(help=f"Half-life of the averaged weights, in pictures. {_default('ema_half_life')}")
]
Dropout = Annotated[float | None, typer.Option(help=f"Dropout in the denoiser. {_default('dropout')}")]
Precision = Annotated[str | None, typer.Option(help=f"auto, float32 or bf16. {_default('precision')}")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="course: what introductory courses train; single settings may still be given.", rich_help_panel=CORE
    ),
]
Prediction = Annotated[
    str | None, typer.Option(help=f"{', '.join(PREDICTIONS)}. {_default('prediction')}", rich_help_panel=CORE)
]
Schedule = Annotated[
    str | None, typer.Option(help=f"{', '.join(SCHEDULES)}. {_default('schedule')}", rich_help_panel=CORE)
]
ScheduleSteps = Annotated[
    int | None,
    typer.Option(help=f"T of the linear schedule. {_default('schedule_steps')}", rich_help_panel=CORE),
]
ZeroTerminalSnr = Annotated[
    bool | None,
    typer.Option("--zero-terminal-snr", help="End the linear schedule in pure noise.", rich_help_panel=CORE),
]
Weighting = Annotated[
    str | None,
    typer.Option(
        help=f"Of noise levels: {', '.join(WEIGHTINGS)}. "
        + _default("weighting", f"; with --enlarge {SUPER_RESOLUTION_WEIGHTING}"),
        rich_help_panel=CORE,
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        help=f"What --condition-drop drops: the vector or each element. {_default('mask')}", rich_help_panel=CORE
    ),
]
Tokens = Annotated[
    int | None,
    typer.Option(help=f"Cross-attention to so many tokens of the vector. {_default('tokens')}", rich_help_panel=CORE),
]
Network = Annotated[
    str | None, typer.Option(help=f"{' or '.join(NETWORKS)}. {_default('network')}", rich_help_panel=CORE)
]
SamplePrompts = Annotated[list[str] | None, typer.Option(help="Paint this on the contact sheets; repeatable.")]
EvaluateEvery = Annotated[
    int | None,
    typer.Option(
        metavar="IMAGES",
        help="Look for likeness and memorisation after every so many pictures seen, and keep the best model in "
        "OUT/best; needs --hold-out.",
    ),
]
Track = Annotated[
    str | None,
    typer.Option(metavar="TRACKER", help=f"Also log to {', '.join(TRACKERS)} (its package must be installed)."),
]
