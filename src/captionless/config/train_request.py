"""The options of a training run besides the settings in ``TrainConfig``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationInfo, field_validator

from captionless.config.base import Config, setting
from captionless.config.limits import MAX_COUNT, MAX_SIZE
from captionless.config.reading import VERIFY, Source
from captionless.config.threads import threads_setting


class TrainRequest(Config):
    """The arguments of ``captionless.train`` besides ``TrainConfig``: the data, the initial model and the outputs."""

    folder: Source = setting(
        ...,
        "A folder of images, searched recursively; nothing else is needed. Or tars or Parquet files of images "
        "('images/*.tar'), or a URL (s3://…).",
        flag="",
        metavar="FOLDER",
    )
    out: Path = setting(..., "The model folder to write.")
    plan: bool = setting(False, "Print what the training would do and how far it would get, and stop.")
    resume: bool = setting(
        False,
        "Continue the training run in `out`. `images` and `minutes` count from its original start; one that is given "
        "replaces both.",
    )
    threads: int | None = threads_setting("OMP_NUM_THREADS, else the fastest number in the plan's rehearsal")
    verify: bool = VERIFY
    preset: Literal["course"] | None = setting(
        None, "A named set of settings, each of which can be overridden; course is the model of introductory courses."
    )
    encoder: str | None = setting(
        None,
        "bundled, a Hugging Face id or a folder; auto selects the bundled encoder if the images are in its domain, "
        "else CLIP if it is in the local cache, else it learns one from the names of the images.",
        panel="Encoder and classes",
        shown="auto; with `start_from` or `resume` the encoder of that model",
    )
    vectors: Path | None = setting(
        None,
        "Precomputed image vectors: a table (path, then the vector's elements), which requires `encoder`, or a folder "
        "of shards written by `captionless embed`.",
        metavar="FILE.csv|FOLDER",
    )
    classes: bool = setting(False, "Train a class-conditional model whose classes are the sub-folders.")
    labels: Path | None = setting(
        None, "Train a class-conditional model with labels from a table with the header file,label.", metavar="FILE.csv"
    )
    start_from: str | Path | None = setting(
        None,
        "Initialise from this model (a folder, 'bundled', or user/repo[@revision] on the Hub) and use its encoder; "
        "`size` and `width` may be larger.",
        panel="Start from another model",
        flag="--from",
        metavar="MODEL",
    )
    enlarge: str | Path | None = setting(
        None,
        "Train a super-resolution stage for this model; together they form one model that generates images of `size`.",
        metavar="MODEL",
    )
    base_size: int | None = setting(
        None,
        "Train a cascade: first a base model for images of this size, then a super-resolution stage to `size`. If both "
        "are equal, a single model is trained.",
        shown="planned; with `start_from` that of the model",
        gt=0,
        le=MAX_SIZE,
        multiple_of=4,
        example=32,
    )
    autoencoder: str | Path | None = setting(
        None,
        "Denoise the latents of this autoencoder instead of pixels, for images of 128 pixels and more: a folder, or "
        "the Hugging Face id of an autoencoder of diffusers, such as madebyollin/taesd. Needs the extra `latents`.",
        panel="Latents",
        shown="none; with `start_from` or `resume` that of the model",
        metavar="MODEL",
    )
    include_autoencoder: bool = setting(
        False, "Copy the autoencoder, with its licence, into the model folder, which then is complete in itself."
    )
    sample_prompts: tuple[str, ...] = setting(
        (),
        "A prompt to show in the sample grids. Repeatable.",
        panel="While it trains",
        flag="--sample-prompt",
        metavar="TEXT",
    )
    evaluate_every: int | None = setting(
        None,
        "Number of images seen between validations on held-out images (`hold_out`). Fidelity and memorisation are "
        "recorded in evaluations.jsonl, and the best model is kept in the folder best.",
        metavar="IMAGES",
        ge=1,
        le=MAX_COUNT,
        example=20_000,
    )
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = setting(
        None, "Also log to this experiment tracker, whose package must be installed.", metavar="TRACKER"
    )

    @field_validator("autoencoder")
    @classmethod
    def _check_latents(cls, autoencoder: str | Path | None, info: ValidationInfo) -> str | Path | None:
        for name in ("enlarge", "base_size"):
            if autoencoder is not None and info.data.get(name) is not None:
                raise ValueError(
                    f"`autoencoder` cannot be used with `{name}`: a super-resolution stage adds detail to pixels. "
                    "Leave one of them out; `enlarge` can add a stage to the finished model later."
                )
        return autoencoder

    @field_validator("sample_prompts")
    @classmethod
    def _check_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(prompt.strip() for prompt in prompts):
            raise ValueError(
                "`sample_prompts` contains an empty prompt. Remove it, or describe what the grids should show."
            )
        return prompts
