"""The settings of a training run, with the defaults of both the library and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import ValidationInfo, field_validator

from captionless.config import limits
from captionless.config.base import Config, setting
from captionless.config.length import MINUTES
from captionless.config.reading import BACKGROUND, Colour
from captionless.device import Precision
from captionless.errors import CaptionlessError

Prediction = Literal["v", "eps", "x0", "flow"]
ScheduleName = Literal["cosine", "linear", "sigmoid", "karras", "flow"]
Weighting = Literal["uniform", "min-snr", "log-normal"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

SUPER_RESOLUTION_WEIGHTING: Weighting = "log-normal"
"""The default ``weighting`` of a super-resolution stage."""
LIMITS = ("minutes", "images")
"""The settings that limit the length of a training run."""
MAX_STEPS = 10_000
"""Maximum T of a linear schedule; with a larger T no signal is left long before t = 1, even in float64."""


def continued(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a resumed run: those given replace those recorded, and a limit replaces both limits."""
    replaced = dict.fromkeys(LIMITS) if any(given.get(name) is not None for name in LIMITS) else {}
    return {**recorded, **replaced, **given}


class TrainConfig(Config):
    """The settings of a training run."""

    size: int = setting(
        64,
        "Side of the square images, in pixels.",
        shown="planned: up to 64; with `enlarge` twice the size of the base model",
        gt=0,
        le=limits.MAX_SIZE,
        multiple_of=4,
    )
    minutes: float | None = MINUTES
    images: int | None = setting(
        None,
        "Total number of images to see, counting repetitions and resumed runs.",
        shown="no limit",
        example=100_000,
        gt=0,
        le=limits.MAX_COUNT,
    )
    grey: bool = setting(False, "Train on grey images instead of colour.")
    background: Colour = BACKGROUND
    hold_out: float = setting(
        0.0, "Share of the images to hold out for validation, selected by content hash.", ge=0, lt=1, example=0.1
    )
    flip: bool = setting(
        True,
        "Flip images horizontally with probability 0.5; disable it if left and right matter, as in letters or maps.",
    )
    precision: Precision = setting(
        "auto", "Number format; auto selects bf16 if the processor supports it natively, else float32."
    )
    seed: int = setting(0, "Random seed of the initial weights, image order, flips and noise.", ge=0, le=2**63 - 1)
    batch: int = setting(
        64,
        "Images per step, over all processes.",
        shown="planned: 16 to 256",
        panel="Optimisation",
        gt=0,
        le=limits.MAX_BATCH,
    )
    accumulate: int = setting(
        1,
        "Number of micro-batches into which each process divides its part of a step; more need less memory.",
        ge=1,
        le=limits.MAX_BATCH,
    )
    checkpoint_activations: bool = setting(
        False,
        "Activation checkpointing: compute each block's activations again in the backward pass, which needs less "
        "memory and more time.",
    )
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw",
        "What updates the weights. muon orthogonalises the updates of weight matrices: a step takes longer, but far "
        "fewer are needed.",
        shown="planned: muon for a new network",
    )
    learning_rate: float = setting(
        5e-4,
        "Learning rate of AdamW after the warm-up; the matrices of muon learn at 6 times this rate.",
        shown="0.0005; 0.001 for the smallest network",
        gt=0,
        le=1_000,
    )
    warm_up: int = setting(
        6_400,
        "Number of images over which the learning rate rises linearly from zero.",
        shown="planned: 5% of the run",
        gt=0,
        le=limits.MAX_COUNT,
    )
    cool_down: float = setting(
        0.4, "Final share of the training run, over which the learning rate falls linearly to zero.", gt=0, le=1
    )
    ema_half_life: int = setting(
        50_000, "Half-life of the exponential moving average of the weights, in images.", gt=0, le=limits.MAX_COUNT
    )
    condition_drop: float = setting(
        0.1,
        "Probability of dropping an image's condition in training; required for guidance.",
        panel="Regularisation",
        ge=0,
        lt=1,
    )
    mask: Literal["vector", "element"] = setting(
        "vector",
        "What `condition_drop` drops: the whole vector, or each element independently (measured to be "
        "useless for guidance).",
    )
    condition_cosine: float = setting(
        0.9,
        "Add noise to each image vector so that its cosine similarity to the original is about this value; 1 adds no "
        "noise.",
        gt=0,
        le=1,
    )
    dropout: float = setting(
        0.0,
        "Dropout probability in the denoiser's blocks, in steps of 1/256; may help with very small datasets.",
        ge=0,
        lt=1,
        example=0.1,
    )
    crop: float = setting(
        1.0,
        "Smallest share of an image's side that a random crop shows; 1 trains on whole images only. The network is "
        "told what it sees, so it generates whole images. May help with small datasets.",
        gt=0,
        le=1,
        example=0.6,
    )
    crop_probability: float = setting(
        0.5, "Probability of cropping an image, if `crop` is less than 1.", gt=0, le=1, example=0.8
    )
    early_stopping: bool = setting(
        False,
        "Stop when the model begins to memorise, and keep the best averaged weights: when the loss on held-out images "
        "no longer falls or, if fewer than 8 are held out, when it generates copies of training images.",
        shown="planned: on for a small folder",
    )
    augmentation_noise: float = setting(
        0.3,
        "Maximum standard deviation of the noise added to the low-resolution input of a super-resolution stage.",
        gt=0,
        le=1,
    )
    prediction: Prediction = setting("v", "What the network predicts.", panel="Diffusion core")
    schedule: ScheduleName = setting("cosine", "The noise schedule.")
    schedule_steps: int = setting(1000, "Number of steps T of the linear schedule.", ge=2, le=MAX_STEPS)
    zero_terminal_snr: bool = setting(
        False, "Rescale the linear schedule so that it ends in pure noise (arXiv:2305.08891)."
    )
    weighting: Weighting = setting(
        "uniform",
        "How noise levels are weighted in the loss.",
        shown=f"{SUPER_RESOLUTION_WEIGHTING}; with `network=course` uniform",
    )
    network: Literal["standard", "course"] = setting(
        "standard", "The architecture; course is the U-Net of introductory courses.", panel="Network"
    )
    width: int = setting(
        64,
        "Channels of the finest level; a larger width improves quality and takes longer.",
        gt=0,
        le=limits.MAX_WIDTH,
        multiple_of=16,
    )
    multipliers: tuple[int, ...] | None = setting(
        None,
        "Channels of each level, finest first, as multiples of `width`; each level halves the resolution.",
        shown="depends on `network`: 1,2,3 for standard",
        example=(1, 2, 3),
    )
    attention: tuple[int, ...] | None = setting(
        None,
        "Levels with self-attention; 0 is the finest.",
        shown="depends on `network`: 1,2 for standard",
        example=(1, 2),
    )
    patch: int | None = setting(
        None,
        "Patch size: the side of the squares of pixels that the first layer folds into channels.",
        shown="depends on `size`: 1, 2 or 4",
        example=2,
        ge=1,
        le=limits.MAX_PATCH,
    )
    blocks: int | None = setting(
        None,
        "Residual blocks per level, in the downsampling and again in the upsampling path.",
        shown="depends on `network`: 2 for standard",
        example=2,
        ge=1,
        le=limits.MAX_BLOCKS,
    )
    tokens: int = setting(
        0,
        "Number of cross-attention tokens made from the condition; 0 turns cross-attention off. 4 tokens gave better "
        "results for the same number of images, but were 25% slower.",
        shown="4 for a new network with attention",
        ge=0,
        le=64,
        example=4,
    )
    checkpoint_minutes: float = setting(5.0, "Minutes between checkpoints.", panel="Checkpoints and sample grids", ge=0)
    sample_grids: int = setting(
        10, "Maximum number of sample grids, evenly spaced over the training run; 0 draws no grids.", ge=0, le=10_000
    )

    @field_validator("schedule_steps", "zero_terminal_snr")
    @classmethod
    def _check_linear(cls, value: int, info: ValidationInfo) -> int:
        schedule = info.data.get("schedule")
        if schedule != "linear" and value != cls.model_fields[str(info.field_name)].default:
            raise ValueError(
                f"`{info.field_name}` has no effect with `schedule={schedule}`. Leave it out, or choose "
                "`schedule=linear`."
            )
        if info.field_name == "zero_terminal_snr" and value and info.data.get("prediction") == "eps":
            raise ValueError(
                "`zero_terminal_snr` makes the first xt pure noise, from which a prediction of the noise (eps) cannot "
                "recover x0. Choose `prediction=v`."
            )
        return value

    @field_validator("crop_probability")
    @classmethod
    def _check_crop(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("crop") == 1 and value != cls.model_fields["crop_probability"].default:
            raise ValueError(
                "`crop_probability` has no effect with `crop=1`. Leave it out, or choose a smaller `crop`, such as "
                "`crop=0.6`."
            )
        return value

    @field_validator("multipliers", "attention")
    @classmethod
    def _check_levels(cls, value: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        lowest, highest = (1, limits.MAX_MULTIPLIER) if info.field_name == "multipliers" else (0, limits.MAX_LEVELS - 1)
        if value is None:
            return None
        fits = lowest <= min(value, default=lowest) and max(value, default=lowest) <= highest
        if not fits or (not value and lowest) or len(value) > limits.MAX_LEVELS:
            given = ",".join(map(str, value))[:60] or "none"
            raise ValueError(
                f"`{info.field_name}` must be up to {limits.MAX_LEVELS} integers of at most {highest} and "
                f"at least {lowest}, separated by commas, not {given}. Try `{info.field_name}=1,2{',3' * lowest}`."
            )
        return value

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, value: int, info: ValidationInfo) -> int:
        if value and (info.data.get("network") == "course" or info.data.get("attention") == ()):
            raise ValueError(
                f"`tokens={value}` needs a network with attention, and this one has none. Choose `network=standard` "
                "and leave `attention` out."
            )
        return value

    @property
    def channels(self) -> int:
        """Number of image channels: 1 for grey images, 3 for colour."""
        return 1 if self.grey else 3

    @classmethod
    def from_record(cls, values: dict[str, Any]) -> Self:
        """Restore the settings recorded in ``config.json``; names unknown to this version are ignored."""
        try:
            return cls(**{name: value for name, value in values.items() if name in cls.model_fields})
        except CaptionlessError as error:
            raise CaptionlessError(
                f"the settings recorded in config.json are invalid: {error} Restore the original config.json.",
                code="damaged_model",
            ) from error
