"""The options of ``captionless autoencoder``."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationInfo, field_validator

from captionless.config import limits
from captionless.config.base import Config, setting
from captionless.config.length import MINUTES
from captionless.config.reading import BACKGROUND, Colour, Source

SHAPE = ("factor", "channels", "width")
"""Settings that an autoencoder to start from decides."""


class AutoencoderConfig(Config):
    """What to train an autoencoder on, and how."""

    folder: Source = setting(..., "A folder of images, searched recursively.", flag="", metavar="FOLDER")
    out: Path = setting(..., "The folder to write the autoencoder to.")
    plan: bool = setting(False, "Print what the training would do, and stop.")
    resume: bool = setting(
        False,
        "Continue the training in `out` with its settings. `images` and `minutes` count from its start, and may be "
        "larger.",
    )
    start_from: str | Path | None = setting(
        None,
        "Fine-tune this autoencoder: a folder, or the Hugging Face id of an AutoencoderTiny, such as "
        "madebyollin/taesd.",
        flag="--from",
        metavar="MODEL",
    )
    factor: int = setting(8, "By how much smaller the sides of latents are: 2, 4, 8 or 16.", ge=2, le=16)
    channels: int = setting(4, "Channels of the latents.", gt=0, le=64)
    width: int = setting(32, "Channels of every layer; TAESD has 64.", gt=0, le=limits.MAX_WIDTH)
    size: int = setting(
        128, "Side of the square images, in pixels.", panel="Training", gt=0, le=limits.MAX_SIZE, multiple_of=16
    )
    crop: int = setting(
        64, "Side of the random crops that a step sees, in pixels, if `size` is larger.", gt=0, multiple_of=16
    )
    minutes: float | None = MINUTES
    images: int | None = setting(
        None, "Total number of crops to see.", shown="no limit", example=100_000, gt=0, le=limits.MAX_COUNT
    )
    batch: int = setting(16, "Images per step.", gt=0, le=limits.MAX_BATCH)
    learning_rate: float = setting(1e-3, "Learning rate of AdamW after the warm-up.", gt=0, le=1_000)
    grey: bool = setting(False, "Train on grey images instead of colour, for `train --grey`.")
    feature_weight: float = setting(
        0.5, "Weight of the distance of image features in the loss; 0 compares pixels only.", ge=0, le=1_000
    )
    hold_out: float = setting(
        0.05, "Share of the images to hold out, on which reconstructions are measured.", ge=0, lt=1
    )
    background: Colour = BACKGROUND
    seed: int = setting(0, "Random seed.", ge=0, le=2**63 - 1)
    checkpoint_minutes: float = setting(5.0, "Minutes between checkpoints.", ge=0)

    @field_validator("factor")
    @classmethod
    def _check_factor(cls, factor: int) -> int:
        if factor & (factor - 1):
            raise ValueError(f"`factor` must be 2, 4, 8 or 16, not {factor}. Try `factor=8`.")
        return factor

    @property
    def image_channels(self) -> int:
        """Number of image channels: 1 for grey images, 3 for colour."""
        return 1 if self.grey else 3

    @property
    def side(self) -> int:
        """The side of the crops that a step sees."""
        return min(self.crop, self.size)

    @field_validator(*SHAPE)
    @classmethod
    def _check_shape(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("start_from") is not None:
            raise ValueError(f"`{info.field_name}` is that of the autoencoder in `start_from`. Leave it out.")
        return value
