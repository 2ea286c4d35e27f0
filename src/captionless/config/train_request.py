"""What a training run is asked for beside its settings: the source of these options for library and command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from captionless.config.base import Config, setting


class TrainRequest(Config):
    """What to train on, from where, and what to write: the arguments of ``captionless.train`` beside the settings."""

    folder: Path = setting(
        ..., "A folder of images, in any sub-folders; nothing else is needed.", flag="", metavar="FOLDER"
    )
    out: Path = setting(..., "The model folder to write.")
    resume: bool = setting(
        False, "Continue the training run in `out`; `images` and `minutes` are totals over all resumes."
    )
    preset: Literal["course"] | None = setting(
        None, "A named set of settings, each of which can be overridden; course is the model of introductory courses."
    )
    encoder: str | None = setting(
        None,
        "bundled, a hub id or a folder; auto takes the bundled encoder if the images are in its domain, else CLIP.",
        panel="Encoder and classes",
        shown="auto; with `start_from` or `resume` that model's",
    )
    vectors: Path | None = setting(
        None, "A table of image vectors computed before: path, then numbers; needs `encoder`.", metavar="FILE.csv"
    )
    classes: bool = setting(False, "Train a class-conditional model: an image's class is its sub-folder.")
    labels: Path | None = setting(
        None, "Train a class-conditional model on a table with the header file,label.", metavar="FILE.csv"
    )
    start_from: str | Path | None = setting(
        None,
        "Initialise with this model's weights and encoder ('bundled'); `size` and `width` may be larger.",
        panel="Start from another model",
        flag="--from",
        metavar="MODEL",
    )
    enlarge: str | Path | None = setting(
        None,
        "Train a super-resolution stage for this model; the two become one model that generates at `size`.",
        metavar="MODEL",
    )
    sample_prompts: tuple[str, ...] = setting(
        (), "A prompt of the sample grids. Repeatable.", panel="While it trains", flag="--sample-prompt", metavar="TEXT"
    )
    evaluate_every: int | None = setting(
        None,
        "Validate on held-out images (`hold_out`) after every so many images seen: record fidelity and memorisation in "
        "evaluations.jsonl, and keep the best model in the folder best.",
        metavar="IMAGES",
        ge=1,
        example=20_000,
    )
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = setting(
        None, "Also log to a tracker whose package is installed.", metavar="TRACKER"
    )

    @field_validator("sample_prompts")
    @classmethod
    def _check_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(prompt.strip() for prompt in prompts):
            raise ValueError("a sample prompt is empty. Write what the sample grids should show.")
        return prompts
