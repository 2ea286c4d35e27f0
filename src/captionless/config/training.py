"""How a model is trained: the one source of the defaults that library, command line and model folders share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from captionless.device import PRECISIONS
from captionless.errors import CaptionlessError, one_of


class GivenSettings(TypedDict, total=False):
    """The settings a caller chose to give; the fields of ``TrainConfig``."""

    size: int
    grey: bool
    width: int
    batch: int
    images: int | None
    minutes: float | None
    learning_rate: float
    seed: int
    hold_out: float
    flip: bool
    condition_drop: float
    condition_cosine: float
    ema_half_life: int
    dropout: float
    precision: str
    prediction: str
    schedule: str
    schedule_steps: int
    zero_terminal_snr: bool
    weighting: str
    mask: str
    tokens: int
    network: str


PREDICTIONS = ("v", "eps", "x0", "flow")
SCHEDULES = ("cosine", "linear", "sigmoid", "karras", "flow")
WEIGHTINGS = ("uniform", "min-snr", "log-normal")
ENLARGING_WEIGHTING = "log-normal"
"""The default of a model that enlarges another's pictures."""
MASKS = ("vector", "element")
NETWORKS = ("standard", "course")
MAX_STEPS = 10_000
"""T of a linear schedule; with many more nothing of the picture is left, even in float64, long before t = 1."""

COURSE: GivenSettings = {
    "size": 32,
    "network": "course",
    "width": 256,
    "schedule": "linear",
    "schedule_steps": 150,
    "prediction": "eps",
    "mask": "element",
    "condition_cosine": 1.0,
}
"""What introductory courses on diffusion train: T = 150 linear betas, predicted noise, an element-wise mask."""

PRESETS: dict[str, GivenSettings] = {"course": COURSE}

BOUND: tuple[Literal["prediction", "schedule", "schedule_steps", "zero_terminal_snr", "network"], ...] = (
    "prediction",
    "schedule",
    "schedule_steps",
    "zero_terminal_snr",
    "network",
)
"""What a training takes over from the model it is begun from: other values would make its weights meaningless."""

LENGTH = frozenset({"images", "minutes", "precision"})
"""What a resumed training may change: how long it runs in all, and what it computes in."""

WIDTH_STEP, SIZE_STEP = 16, 4
"""What a denoiser's width and a picture's side must be multiples of."""


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of one training.

    Args:
        size: side of the square pictures, in pixels.
        grey: train on grey pictures instead of colour.
        width: channels of the denoiser's finest level, a multiple of 16; time and quality grow with it.
        batch: pictures a step (on each process).
        images: stop after this many pictures in all, over all resumes; None: no such limit.
        minutes: stop after this much training time in all, over all resumes; None: no such limit.
            With neither, a training lasts ``DEFAULT_MINUTES``.
        learning_rate: of AdamW, after the warm-up.
        seed: decides initial weights, order, flips and noise.
        hold_out: share of the pictures set aside by content hash, in [0, 1).
        flip: mirror every other picture; switch it off where left and right differ (letters, maps).
        condition_drop: share of pictures trained without their vector, for guidance.
        condition_cosine: blur each vector to this cosine with itself; 1 for none. With 0.9 the shipped model was
            trained; from scratch the two measured alike (``docs/ablations.md``).
        ema_half_life: pictures after which a step's weight in the averaged model has halved.
        dropout: in the denoiser's blocks; may help on very small folders.
        precision: ``auto``, ``float32`` or ``bf16``.
        prediction: what the network answers, one of ``PREDICTIONS``; see ``captionless.diffusion.objective``.
        schedule: the noise schedule, one of ``SCHEDULES``; see ``captionless.diffusion.schedules``.
        schedule_steps: T of the linear schedule.
        zero_terminal_snr: rescale the linear schedule so that it ends in pure noise.
        weighting: of noise levels in the loss, one of ``WEIGHTINGS``; of a model that enlarges by default
            ``ENLARGING_WEIGHTING``.
        mask: what ``condition_drop`` drops: the whole ``vector`` of a picture, without which guidance measured useless,
            or each ``element`` by itself.
        tokens: tokens made of the vector for cross-attention, beside scale and shift; 0 is none. 4 measured better for
            the same number of pictures, a step taking a quarter longer.
        network: ``standard``, or ``course``: the U-Net of introductory courses.
    """

    size: int = 64
    grey: bool = False
    width: int = 64
    batch: int = 64
    images: int | None = None
    minutes: float | None = None
    learning_rate: float = 5e-4
    seed: int = 0
    hold_out: float = 0.0
    flip: bool = True
    condition_drop: float = 0.1
    condition_cosine: float = 0.9
    ema_half_life: int = 50_000
    dropout: float = 0.0
    precision: str = "auto"
    prediction: str = "v"
    schedule: str = "cosine"
    schedule_steps: int = 1000
    zero_terminal_snr: bool = False
    weighting: str = "uniform"
    mask: str = "vector"
    tokens: int = 0
    network: str = "standard"

    def __post_init__(self) -> None:
        """Refuse values no training can run with."""
        self._positive("size", "width", "batch", "learning_rate", "ema_half_life")
        for name in ("images", "minutes"):
            if getattr(self, name) is not None:
                self._positive(name)
        # The denoiser refuses these as well, but only once all pictures have been read and embedded.
        for name, step in (("width", WIDTH_STEP), ("size", SIZE_STEP)):
            value = getattr(self, name)
            if value % step:
                near = max(1, round(value / step)) * step
                raise CaptionlessError(f"{flag(name)} must be a multiple of {step}, not {value}. Try {near}.")
        if not 0 <= self.seed < 2**63:
            raise CaptionlessError(f"--seed must be a whole number from 0 to 2**63 - 1, not {self.seed}.")
        if not 0 <= self.hold_out < 1:
            raise CaptionlessError(f"--hold-out must be a share from 0 up to but not including 1, not {self.hold_out}.")
        for name in ("condition_drop", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise CaptionlessError(f"{flag(name)} must lie in [0, 1), not {getattr(self, name)}. Try 0.1.")
        if not 0 < self.condition_cosine <= 1:
            raise CaptionlessError(
                f"--condition-cosine must lie in (0, 1], not {self.condition_cosine}. 1 is no noise."
            )
        one_of("precision", self.precision, PRECISIONS)
        self._check_diffusion()

    def _check_diffusion(self) -> None:
        one_of("prediction", self.prediction, PREDICTIONS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("weighting", self.weighting, WEIGHTINGS)
        one_of("mask", self.mask, MASKS)
        one_of("network", self.network, NETWORKS)
        if self.schedule != "linear" and (self.zero_terminal_snr or self.schedule_steps != 1000):
            raise CaptionlessError(
                f"the {self.schedule} schedule has no steps: --schedule-steps and --zero-terminal-snr belong to "
                "--schedule linear."
            )
        if not 2 <= self.schedule_steps <= MAX_STEPS:
            raise CaptionlessError(
                f"--schedule-steps must lie from 2 to {MAX_STEPS:,}, not {self.schedule_steps}. Try 150 or 1000."
            )
        if self.zero_terminal_snr and self.prediction == "eps":
            raise CaptionlessError(
                "with --zero-terminal-snr the first xt is all noise, of which predicted noise (eps) says nothing. "
                "Choose --prediction v."
            )
        if not 0 <= self.tokens <= 64:
            raise CaptionlessError(f"--tokens must lie from 0 (none) to 64, not {self.tokens}. Try 4.")
        if self.tokens and self.network == "course":
            raise CaptionlessError(
                "--network course has no attention, so that nothing would look at --tokens. Choose --network standard."
            )

    def _positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not value > 0:
                raise CaptionlessError(f"{flag(name)} must be more than 0, not {value}.")

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for colour."""
        return 1 if self.grey else 3


DEFAULT_MINUTES = 60.0


def flag(name: str) -> str:
    """Return the command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def check_unchanged(given: GivenSettings, recorded: TrainConfig) -> None:
    """Raise unless every given setting but the length equals what the training was begun with."""
    for name, value in given.items():
        if name not in LENGTH and value != getattr(recorded, name):
            raise CaptionlessError(
                f"{flag(name)} {value} contradicts the model that is to be resumed, begun with "
                f"{getattr(recorded, name)}. Leave it out, or start anew with --from in another folder."
            )


def settings_from_dict(values: dict[str, Any]) -> TrainConfig:
    """Rebuild settings written by ``dataclasses.asdict``; names that this version does not know are left out."""
    known = {field.name for field in fields(TrainConfig)}
    try:
        return TrainConfig(**{name: value for name, value in values.items() if name in known})
    except TypeError as error:
        raise CaptionlessError(f"the recorded settings are damaged ({error}). Restore config.json.") from error
