"""The training settings: the one source of these defaults for library, command line and model folders."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import model_validator

from captionless.config.base import Config, setting
from captionless.config.keyword_types import TrainOptions
from captionless.device import Precision
from captionless.errors import CaptionlessError

Prediction = Literal["v", "eps", "x0", "flow"]
ScheduleName = Literal["cosine", "linear", "sigmoid", "karras", "flow"]
Weighting = Literal["uniform", "min-snr", "log-normal"]
Mask = Literal["vector", "element"]
NetworkName = Literal["standard", "course"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
MASKS: tuple[Mask, ...] = get_args(Mask)
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Trackers that a training run can be logged to, by the names of their packages."""

SUPER_RESOLUTION_WEIGHTING: Weighting = "log-normal"
"""The default ``weighting`` of a super-resolution stage."""
DEFAULT_MINUTES = 60.0
"""Length of a training run where neither ``minutes`` nor ``images`` is given."""
MAX_STEPS = 10_000
"""Maximum T of a linear schedule: beyond it, nothing of the image is left long before t = 1, even in float64."""

COURSE: TrainOptions = {
    "size": 32,
    "network": "course",
    "width": 256,
    "schedule": "linear",
    "schedule_steps": 150,
    "prediction": "eps",
    "mask": "element",
    "condition_cosine": 1.0,
}
"""The model of introductory courses on diffusion: T = 150 linear betas, predicted noise, an element-wise mask."""

PRESETS: dict[str, TrainOptions] = {"course": COURSE}

BOUND = (
    "prediction",
    "schedule",
    "schedule_steps",
    "zero_terminal_snr",
    "network",
)
"""Settings that a training run takes over from its initial model: other values would make the weights meaningless."""

LENGTH = frozenset({"images", "minutes", "precision", "checkpoint_minutes", "sample_grids"})
"""Settings that may change on resuming: the total length, the number format, and how often output is written."""

OPTIMISATION = "Optimisation"
REGULARISATION = "Conditions and regularisation"
CORE = "Diffusion core"
NETWORK = "Network"
OUTPUT = "Checkpoints and sample grids"


class TrainConfig(Config):
    """The settings of a training run."""

    size: int = setting(
        64,
        "Side of the square images, in pixels.",
        shown="64; with `enlarge` twice the base model's",
        gt=0,
        multiple_of=4,
    )
    minutes: float | None = setting(
        None, "Training time in all, over all resumes.", shown="60 unless `images` is given", example=60, gt=0
    )
    images: int | None = setting(
        None, "Images to see in all, over all resumes.", shown="no limit", example=100_000, gt=0
    )
    grey: bool = setting(False, "Train on grey images instead of colour.")
    hold_out: float = setting(
        0.0, "Share of the images to set aside by content hash, for validation.", ge=0, lt=1, example=0.1
    )
    flip: bool = setting(
        True,
        "Flip images horizontally at random (probability 0.5); disable it where left and right differ, as in letters "
        "or maps.",
    )
    precision: Precision = setting(
        "auto", "Number format; auto takes bf16 where the processor supports it natively, else float32."
    )
    seed: int = setting(0, "Seed of initial weights, order, flips and noise.", ge=0, le=2**63 - 1)
    batch: int = setting(64, "Images per step (on each process).", panel=OPTIMISATION, gt=0)
    learning_rate: float = setting(5e-4, "Learning rate of AdamW after the warm-up.", panel=OPTIMISATION, gt=0)
    warm_up: int = setting(6_400, "Images over which the learning rate rises from zero.", panel=OPTIMISATION, gt=0)
    cool_down: float = setting(
        0.4,
        "Final share of the training run over which the learning rate falls to zero.",
        panel=OPTIMISATION,
        gt=0,
        le=1,
    )
    ema_half_life: int = setting(
        50_000, "Images after which a step's weight in the averaged model has halved.", panel=OPTIMISATION, gt=0
    )
    condition_drop: float = setting(
        0.1, "Share of images trained without their vector, for guidance.", panel=REGULARISATION, ge=0, lt=1
    )
    mask: Mask = setting(
        "vector",
        "What `condition_drop` drops: the whole vector, or each element by itself (measured useless for guidance).",
        panel=REGULARISATION,
    )
    condition_cosine: float = setting(
        0.9,
        "Add noise to each image vector so that its cosine similarity to the original is about this value; 1 adds no "
        "noise.",
        panel=REGULARISATION,
        gt=0,
        le=1,
    )
    dropout: float = setting(
        0.0,
        "Dropout in the denoiser's blocks; may help on very small folders.",
        panel=REGULARISATION,
        ge=0,
        lt=1,
        example=0.1,
    )
    augmentation_noise: float = setting(
        0.3,
        "Largest standard deviation of the noise on the low-resolution input of a super-resolution stage.",
        panel=REGULARISATION,
        gt=0,
        le=1,
    )
    prediction: Prediction = setting("v", "What the network predicts.", panel=CORE)
    schedule: ScheduleName = setting("cosine", "The noise schedule.", panel=CORE)
    schedule_steps: int = setting(1000, "T of the linear schedule.", panel=CORE, ge=2, le=MAX_STEPS)
    zero_terminal_snr: bool = setting(
        False, "Rescale the linear schedule so that it ends in pure noise (arXiv:2305.08891).", panel=CORE
    )
    weighting: Weighting = setting(
        "uniform",
        "How noise levels are weighted in the loss.",
        panel=CORE,
        shown=f"uniform; with `enlarge` {SUPER_RESOLUTION_WEIGHTING}",
    )
    network: NetworkName = setting(
        "standard", "The architecture; course is the U-Net of introductory courses.", panel=NETWORK
    )
    width: int = setting(
        64,
        "Channels of the finest level; time and quality grow with it.",
        panel=NETWORK,
        gt=0,
        multiple_of=16,
    )
    multipliers: tuple[int, ...] | None = setting(
        None,
        "Channels of each level, finest first, as multiples of `width`; each level halves the resolution.",
        panel=NETWORK,
        shown="by network: 1,2,3 for standard",
        example=(1, 2, 3),
    )
    attention: tuple[int, ...] | None = setting(
        None,
        "Levels that get self-attention; 0 is the finest.",
        panel=NETWORK,
        shown="by network: 1,2 for standard",
        example=(1, 2),
    )
    patch: int | None = setting(
        None,
        "Side of the square of pixels that the first layer turns into channels.",
        panel=NETWORK,
        shown="by size: 1, 2 or 4",
        example=2,
        ge=1,
    )
    blocks: int | None = setting(
        None,
        "Residual blocks per level on the way down, and as many on the way up.",
        panel=NETWORK,
        shown="by network: 2 for standard",
        example=2,
        ge=1,
    )
    tokens: int = setting(
        0,
        "Tokens made of the vector for cross-attention; 0 turns it off. 4 measured better per image, a quarter slower.",
        panel=NETWORK,
        ge=0,
        le=64,
        example=4,
    )
    checkpoint_minutes: float = setting(5.0, "Minutes between checkpoints.", panel=OUTPUT, ge=0)
    sample_grids: int = setting(
        10, "Maximum number of sample grids, evenly spaced over the training run; 0 draws no grids.", panel=OUTPUT, ge=0
    )

    @model_validator(mode="after")
    def _check_diffusion(self) -> Self:
        if self.schedule != "linear" and (self.zero_terminal_snr or self.schedule_steps != 1000):
            name = "zero_terminal_snr" if self.zero_terminal_snr else "schedule_steps"
            raise CaptionlessError(
                f"the {self.schedule} schedule has no steps: `schedule_steps` and `zero_terminal_snr` belong to "
                "`schedule=linear`.",
                parameter=name,
                value=getattr(self, name),
                code="invalid_setting",
            )
        if self.zero_terminal_snr and self.prediction == "eps":
            raise CaptionlessError(
                "with `zero_terminal_snr` the first xt is pure noise, and predicted noise (eps) says nothing about x0. "
                "Choose `prediction=v`.",
                parameter="zero_terminal_snr",
                value=True,
                code="invalid_setting",
            )
        return self

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.tokens and (self.network == "course" or self.attention == ()):
            raise CaptionlessError(
                "`tokens` are used by attention, and this network has none. Choose `network=standard`, and leave "
                "`attention` out.",
                parameter="tokens",
                value=self.tokens,
                code="invalid_setting",
            )
        for name, lowest in (("multipliers", 1), ("attention", 0)):
            value = getattr(self, name)
            if value is not None and (min(value, default=lowest) < lowest or (name == "multipliers" and not value)):
                raise CaptionlessError(
                    f"`{name}` must be whole numbers from {lowest}, not {','.join(map(str, value)) or 'none'}.",
                    parameter=name,
                    value=value,
                    code="invalid_setting",
                )
        return self

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return 1 if self.grey else 3


def check_unchanged(given: TrainOptions, recorded: TrainConfig) -> None:
    """Raise unless every given setting outside ``LENGTH`` equals the value that the training run was started with."""
    for name, value in given.items():
        before = getattr(recorded, name)
        if name not in LENGTH and value != before:
            raise CaptionlessError(
                f"`{name}={value}` conflicts with the model being resumed, which was trained with {before}. Leave it "
                "out, or start a new run in another folder with `start_from`.",
                parameter=name,
                value=value,
                code="contradicts_model",
            )


def settings_from_dict(values: dict[str, Any]) -> TrainConfig:
    """Rebuild a config from what ``config.json`` records; names that this version does not know are dropped."""
    try:
        return TrainConfig(**{name: value for name, value in values.items() if name in TrainConfig.model_fields})
    except CaptionlessError as error:
        raise CaptionlessError(
            f"the settings recorded in config.json are invalid: {error} Restore config.json."
        ) from error
