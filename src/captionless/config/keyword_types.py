"""The settings as typed keywords for editors and type checkers; written by tools/settings.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from captionless.config.evaluation import ClassifierConfig


class TrainKeywords(TypedDict, total=False):
    """The fields of ``TrainRequest`` and ``TrainConfig``."""

    resume: bool
    preset: Literal["course"] | None
    encoder: str | None
    vectors: str | Path | None
    classes: bool
    labels: str | Path | None
    start_from: str | Path | None
    enlarge: str | Path | None
    sample_prompts: Sequence[str]
    evaluate_every: int | None
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None
    size: int
    minutes: float | None
    images: int | None
    grey: bool
    hold_out: float
    flip: bool
    precision: Literal["auto", "float32", "bf16"]
    seed: int
    batch: int
    learning_rate: float
    warm_up: int
    cool_down: float
    ema_half_life: int
    condition_drop: float
    mask: Literal["vector", "element"]
    condition_cosine: float
    dropout: float
    augmentation_noise: float
    prediction: Literal["v", "eps", "x0", "flow"]
    schedule: Literal["cosine", "linear", "sigmoid", "karras", "flow"]
    schedule_steps: int
    zero_terminal_snr: bool
    weighting: Literal["uniform", "min-snr", "log-normal"]
    network: Literal["standard", "course"]
    width: int
    multipliers: tuple[int, ...] | None
    attention: tuple[int, ...] | None
    patch: int | None
    blocks: int | None
    tokens: int
    checkpoint_minutes: float
    sample_grids: int


class SamplingKeywords(TypedDict, total=False):
    """The fields of ``SamplingConfig``."""

    guidance: float
    guidance_interval: tuple[float, float] | None
    guidance_levels: tuple[float, float]
    guidance_rescale: float
    threshold: Literal["static", "dynamic", "none"]
    steps: int
    sampler: Literal["dpmpp-2m", "unipc", "dpmpp-2m-sde", "heun", "euler", "euler-ancestral", "ddim", "ddpm"]
    spacing: Literal["even", "karras"]
    eta: float | None
    churn: float | None
    variance: Literal["lower", "upper"] | None
    precision: Literal["auto", "float32", "bf16"]
    batch: int
    variety: float
    bridge: Literal["nearest", "mean", "none"]
    neighbours: int
    mean_shift_iterations: int
    upsample_steps: int
    upsample_noise: float


class EvaluationKeywords(TypedDict, total=False):
    """The fields of ``EvaluationConfig``."""

    samples: int
    seed: int
    passing: float | Literal["ceiling"] | None
    training_samples: int
    compared: int
    prompt_images: int
    max_prompts: int
    classifier: ClassifierConfig


class EvaluateKeywords(EvaluationKeywords, SamplingKeywords, total=False):
    """The settings of ``captionless.evaluate``."""
