"""The options that `captionless evaluate` and `captionless assess` share, and what their help says of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captionless.config.sampling import SAMPLERS

Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE.csv", help="Labels from a table with the header file,label, not sub-folders."),
]
Encoder = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Where the models' own encoder lies now, if it has moved.")
]
Guidance = Annotated[float, typer.Option(help="w of (1+w)·cond − w·uncond.")]
Steps = Annotated[int, typer.Option(help="Denoising steps.")]
Sampler = Annotated[str, typer.Option(help=f"One of: {', '.join(SAMPLERS)}.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bf16.")]
Batch = Annotated[int, typer.Option(help="Pictures computed together.")]
Seed = Annotated[int, typer.Option(help="Of noise and choices.")]
