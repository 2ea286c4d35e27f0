"""How a model is trained: the one source of the defaults that library, command line and model folders share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypedDict

from captionless.errors import CaptionlessError, one_of
from captionless.precision import PRECISIONS


class GivenSettings(TypedDict, total=False):
    """The settings a caller chose to give; the fields of ``TrainSettings``."""

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


LENGTH = frozenset({"images", "minutes", "precision"})
"""What a resumed training may change: how long it runs in all, and what it computes in."""

WIDTH_STEP, SIZE_STEP = 16, 4
"""What a denoiser's width and a picture's side must be multiples of."""


@dataclass(frozen=True)
class TrainSettings:
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
        condition_cosine: blur each vector to this cosine with itself; 1 for none. The shipped model was trained so.
        ema_half_life: pictures after which a step's weight in the averaged model has halved.
        dropout: in the denoiser's blocks; may help on very small folders.
        precision: ``auto``, ``float32`` or ``bf16``.
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


def check_unchanged(given: GivenSettings, recorded: TrainSettings) -> None:
    """Raise unless every given setting but the length equals what the training was begun with."""
    for name, value in given.items():
        if name not in LENGTH and value != getattr(recorded, name):
            raise CaptionlessError(
                f"{flag(name)} {value} contradicts the model that is to be resumed, begun with "
                f"{getattr(recorded, name)}. Leave it out, or start anew with --from in another folder."
            )


def settings_from_dict(values: dict[str, Any]) -> TrainSettings:
    """Rebuild settings written by ``dataclasses.asdict``; names that this version does not know are left out."""
    known = {field.name for field in fields(TrainSettings)}
    try:
        return TrainSettings(**{name: value for name, value in values.items() if name in known})
    except TypeError as error:
        raise CaptionlessError(f"the recorded settings are damaged ({error}). Restore config.json.") from error
