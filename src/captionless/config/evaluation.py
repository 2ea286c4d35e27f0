"""The sizes of an evaluation (images sampled, compared and resampled): the one source of these defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from captionless.config.base import Config, setting

MAX_SEED = 2**32 - 1
"""PyTorch reads 32 bits of a seed."""

SIZES = "Sizes of the evaluation"

Passing = float | Literal["ceiling"]


class ClassifierConfig(Config):
    """Training settings of the reference classifier, which learns from real images."""

    size: int = setting(48, "Side in pixels that images are resized to.", ge=1)
    small_size: int = setting(
        16, "Used instead of `size` for images whose side is at most this many pixels, where it is sufficient.", ge=1
    )
    passes: int = setting(24, "Number of times that each image is seen in training.", ge=1)
    images_seen: tuple[int, int] = setting(
        (20_000, 120_000),
        "Minimum and maximum number of images seen in training (with repetition), regardless of the size of the data "
        "set.",
    )
    batch: int = setting(64, "Images per step.", ge=1)
    growth: tuple[tuple[float, float], ...] = setting(
        ((0.5, 1 / 2), (0.8, 2 / 3), (1.0, 1.0)),
        "Pairs (fraction of training, fraction of `size`): train at that resolution until that point (progressive "
        "resizing, arXiv:2104.00298).",
    )


class EvaluationConfig(Config):
    """The sizes of an evaluation: larger values are more certain and slower."""

    samples: int = setting(
        500,
        "Maximum number of images sampled from the vectors of held-out images; fewer are faster and less certain.",
        ge=1,
    )
    seed: int = setting(0, "Seed of all noise and random choices.", ge=0, le=MAX_SEED)
    passing: Passing | None = setting(
        None,
        "Give a pass or a fail: the share of each class's images that a classifier must recognise; or 'ceiling': the "
        "share of its held-out real images that the classifier recognises.",
        flag="--pass",
        metavar="SHARE|ceiling",
        example=0.95,
    )
    training_samples: int = setting(
        100,
        "Maximum number of images sampled from training images' own vectors, where copies show first.",
        panel=SIZES,
        ge=1,
    )
    compared: int = setting(
        20_000, "Maximum number of training images that samples are compared with to find copies.", panel=SIZES, ge=1
    )
    prompt_images: int = setting(300, "Approximate total number of images sampled from prompts.", panel=SIZES, ge=1)
    max_prompts: int = setting(
        300, "Maximum number of prompts; if there are more, a random subset is used.", panel=SIZES, ge=1
    )
    classifier: ClassifierConfig = setting(
        ClassifierConfig(), "How the reference classifier is trained; only from Python."
    )

    @field_validator("passing")
    @classmethod
    def _check_share(cls, value: Passing | None) -> Passing | None:
        if isinstance(value, float) and not 0 < value <= 1:
            raise ValueError(
                f"`passing` must be a share above 0 and at most 1, or ceiling, not {value:g}. Try `passing=0.95`."
            )
        return value
