"""The settings of an evaluation: sample sizes, pass/fail threshold and reference classifier."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from captionless.config.base import Config, setting
from captionless.config.keyword_types import EvaluationKeywords, SamplingKeywords
from captionless.config.limits import MAX_COUNT, MAX_SAMPLES

MAX_SEED = 2**32 - 1
"""Largest seed: PyTorch uses only 32 bits of a seed."""

SIZES = "Sizes of the evaluation"

Passing = float | Literal["ceiling"]


class ClassifierConfig(Config):
    """Training settings of the reference classifier, which is trained on real images."""

    size: int = setting(48, "Side to which images are resized, in pixels.", ge=1)
    small_size: int = setting(
        16, "Replaces `size` for images whose side is at most this many pixels, for which it is sufficient.", ge=1
    )
    passes: int = setting(24, "Number of training epochs, within the limits of `images_seen`.", ge=1)
    images_seen: tuple[int, int] = setting(
        (20_000, 120_000),
        "Minimum and maximum number of images seen in training, with repetitions, whatever the size of the dataset.",
    )
    batch: int = setting(64, "Images per step.", ge=1)
    growth: tuple[tuple[float, float], ...] = setting(
        ((0.5, 1 / 2), (0.8, 2 / 3), (1.0, 1.0)),
        "Progressive resizing (arXiv:2104.00298): pairs of a fraction of training and the fraction of `size` used as "
        "the resolution until then.",
    )


class EvaluationConfig(Config):
    """The settings of an evaluation. Larger sample sizes are more precise and take longer."""

    samples: int = setting(
        500,
        "Maximum number of images sampled from the vectors of held-out images; fewer is faster but less precise.",
        ge=1,
        le=MAX_SAMPLES,
    )
    seed: int = setting(0, "Seed of all noise and random choices.", ge=0, le=MAX_SEED)
    quick: bool = setting(
        False,
        "Take a first look in about two minutes on two CPU cores: every figure, but from 50 images sampled from the "
        "vectors of held-out images, 50 from prompts and 20 from the vectors of training images, in 10 steps and "
        "without a super-resolution stage. The 95% ranges of shares are two to three times as wide, those of KID and "
        "CMMD up to ten times.",
    )
    passing: Passing | None = setting(
        None,
        "Pass/fail threshold: the minimum share of each class's images that the reference classifier must recognise, "
        "or 'ceiling' for the share that it recognises of the class's held-out real images.",
        flag="--pass",
        metavar="SHARE|ceiling",
        example=0.95,
    )
    training_samples: int = setting(
        100,
        "Maximum number of images sampled from the vectors of training images, where memorisation shows first.",
        panel=SIZES,
        ge=1,
        le=MAX_SAMPLES,
    )
    compared: int = setting(
        20_000,
        "Maximum number of training images that samples are compared with to detect copies.",
        panel=SIZES,
        ge=1,
        le=MAX_COUNT,
    )
    prompt_images: int = setting(
        300, "Approximate total number of images sampled from prompts.", panel=SIZES, ge=1, le=MAX_SAMPLES
    )
    max_prompts: int = setting(
        300, "Maximum number of prompts; if there are more, a random subset is used.", panel=SIZES, ge=1, le=MAX_SAMPLES
    )
    classifier: ClassifierConfig = setting(
        ClassifierConfig(), "Training settings of the reference classifier; available only from Python."
    )

    @field_validator("passing")
    @classmethod
    def _check_share(cls, value: Passing | None) -> Passing | None:
        if isinstance(value, float) and not 0 < value <= 1:
            raise ValueError(
                f"`passing` must be above 0 and at most 1, or 'ceiling', not {value:g}. Try `passing=0.95`."
            )
        return value


QUICK: EvaluationKeywords = {
    "samples": 50,
    "training_samples": 20,
    "compared": 500,
    "prompt_images": 50,
    "max_prompts": 50,
    "classifier": ClassifierConfig(images_seen=(8_000, 8_000)),
}
"""The sizes of a quick evaluation; ``samples`` is the least that precision and recall need."""
QUICK_SAMPLING: SamplingKeywords = {"steps": 10}
