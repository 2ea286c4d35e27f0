"""The options of `captionless generate`, and what its help says of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captionless.config.sampling import BRIDGES, SAMPLERS, SPACINGS, THRESHOLDS, VARIANCES, SamplingConfig

SHOWN = "What to show"
BEGIN = "A photograph to begin from"
GUIDANCE = "Guidance"
SAMPLING = "Sampling"
DEFAULTS = SamplingConfig()

Words = Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]...", help="What to paint.")]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="Prompts, one a line; - reads standard input.")
]
Model = Annotated[str, typer.Option(help="A model folder, or 'bundled', the flower model.")]
Encoder = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Where the model's own encoder lies now, if it has moved.")
]
Count = Annotated[int | None, typer.Option("-n", help="Pictures a prompt.", show_default="1; with --towards 8")]
Seed = Annotated[int, typer.Option(help="Picture i of a prompt (from 0) uses seed + i.")]
Out = Annotated[Path, typer.Option(help="Folder to write into; existing files are never overwritten.")]
Trajectory = Annotated[
    bool, typer.Option("--trajectory", help="Also write the denoising steps of each image: a strip and a GIF.")
]

Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="A class to paint, where the model was trained with --classes. Repeatable.",
        rich_help_panel=SHOWN,
    ),
]
Negative = Annotated[str | None, typer.Option(metavar="TEXT", help="Words to lean away from.", rich_help_panel=SHOWN)]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT[:WEIGHT]",
        help="Another prompt at the same time; the weight is 1 unless given, below 0 it leans away. Repeatable.",
        rich_help_panel=SHOWN,
    ),
]
Then = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Another prompt that takes over on the way.", rich_help_panel=SHOWN),
]
Switch = Annotated[
    float | None,
    typer.Option(help="Share of the way after which --then takes over.", show_default="0.5", rich_help_panel=SHOWN),
]
Towards = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Pictures from the prompt to this one in even steps, all from the noise of one seed.",
        rich_help_panel=SHOWN,
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(metavar="PHOTO", help="A picture of what to show, with a prompt or without.", rich_help_panel=SHOWN),
]
LikeShare = Annotated[
    float | None,
    typer.Option(help="How much of it is in the mixture with the prompt.", show_default="0.5", rich_help_panel=SHOWN),
]

Init = Annotated[Path | None, typer.Option(metavar="PHOTO", help="Paint over this photograph.", rich_help_panel=BEGIN)]
Strength = Annotated[
    float | None,
    typer.Option(
        help="How much of it is lost, above 0 (nothing) to 1 (all).",
        show_default="0.6; with --mask 1",
        rich_help_panel=BEGIN,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        metavar="PICTURE",
        help="Of the photograph's size: repaint only what is white (or transparent) here.",
        rich_help_panel=BEGIN,
    ),
]

Scales = Annotated[
    str,
    typer.Option(
        "--guidance",
        metavar="W[,W...]",
        help="w of (1+w)·cond − w·uncond: 0 is none; more follows the words closer and varies less. "
        "Several, such as -1,0,1,3, are painted side by side.",
        rich_help_panel=GUIDANCE,
    ),
]
Interval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Times, from 1 (noise) to 0 (picture), between which guidance acts.",
        show_default="0.1,0.9 (or where the schedule is as noisy); 0,1 with a scale of 0 or less",
        rich_help_panel=GUIDANCE,
    ),
]
Rescale = Annotated[
    float | None,
    typer.Option(
        "--guidance-rescale",
        help="Share, 0 to 1, of the contrast that guidance adds to be taken back.",
        show_default="0",
        rich_help_panel=GUIDANCE,
    ),
]
Threshold = Annotated[
    str,
    typer.Option(
        help=f"How predictions are kept in the range of pictures: {', '.join(THRESHOLDS)}.", rich_help_panel=GUIDANCE
    ),
]

Steps = Annotated[int, typer.Option(help="Denoising steps.", rich_help_panel=SAMPLING)]
Sampler = Annotated[str, typer.Option(help=f"One of: {', '.join(SAMPLERS)}.", rich_help_panel=SAMPLING)]
Spacing = Annotated[str, typer.Option(help=f"Of the noise levels: {', '.join(SPACINGS)}.", rich_help_panel=SAMPLING)]
Eta = Annotated[
    float | None,
    typer.Option(
        help="Fresh noise, from 0 to 1, of ddim, dpmpp-2m-sde, euler-ancestral.",
        show_default="0; the latter two 1",
        rich_help_panel=SAMPLING,
    ),
]
Churn = Annotated[
    float | None, typer.Option(help="Fresh noise of heun, euler.", show_default="0", rich_help_panel=SAMPLING)
]
Variance = Annotated[
    str | None,
    typer.Option(help=f"Of ddpm's steps: {', '.join(VARIANCES)}.", show_default="lower", rich_help_panel=SAMPLING),
]
Bridge = Annotated[
    str | None,
    typer.Option(
        help=f"From text vector to condition: {', '.join(BRIDGES)}; nearest is the mean of the nearest training "
        "vectors.",
        show_default=DEFAULTS.bridge,
        rich_help_panel=SAMPLING,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="float32 or bf16; auto takes bf16 where the processor computes it itself "
        "(without, it is many times slower), else float32.",
        rich_help_panel=SAMPLING,
    ),
]
Batch = Annotated[
    int, typer.Option(help="Pictures computed together; changes memory, not pictures.", rich_help_panel=SAMPLING)
]
