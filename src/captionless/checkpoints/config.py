"""Describe a model on disk: ``config.json``, and the names of the other files in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from captionless.checkpoints.hub import FETCHED, fetch_model, is_hub_id
from captionless.checkpoints.old_formats import translated
from captionless.conditioning.classes import list_classes
from captionless.config.training import PREDICTIONS
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule
from captionless.errors import CaptionlessError, one_of
from captionless.files import atomic_write
from captionless.models.unet import DenoiserConfig

FORMAT = 8
BUNDLED = "bundled"
CONFIG = "config.json"
BASE, OLD_BASE = "base", "small"
"""The folder of the base model inside that of a super-resolution stage; formats up to 6 called it ``small``."""


@dataclass(frozen=True)
class EncoderReference:
    """The encoder of a model: its name, for people, and its image side's content hash, for verification."""

    name: str
    digest: str
    width: int
    logit_scale: float


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained, for people and for resuming."""

    version: str = ""  # of captionless
    folder: str = "?"  # of the training images
    train_images: int = 0
    held_out: int = 0
    initialised_from: str | None = None  # name of the model whose weights it started with
    base_model: str | None = None  # of a super-resolution stage: name of the model whose images it upsamples
    encoder_reason: str = ""  # why its encoder was chosen
    labels: str = ""  # where those of a class-conditional model come from; see ``captionless.data.labels``
    class_images: dict[str, int] = field(default_factory=dict)  # training images per class
    settings: dict[str, Any] = field(default_factory=dict)  # fields of ``captionless.config.training.TrainConfig``
    images_seen: int = 0  # in training, repetitions included
    minutes: float = 0.0  # spent in training steps
    loss: float | None = None  # smoothed, at the end


@dataclass(frozen=True)
class ModelConfig:
    """The content of ``config.json``; a model has either an encoder or classes."""

    size: int  # side of the images, in pixels
    denoiser: DenoiserConfig
    encoder: EncoderReference | None  # its image vectors are the conditions
    schedule: AnySchedule = field(default_factory=CosineSchedule)
    prediction: str = "v"  # of the denoiser; see ``captionless.diffusion.objective``
    training: TrainingRecord = field(default_factory=TrainingRecord)
    classes: tuple[str, ...] = ()  # names, in the order of the elements of its one-hot conditions
    base_size: int | None = None  # of a super-resolution stage: side of the base model's images, in pixels

    def __post_init__(self) -> None:
        """Check that the parts do not contradict each other."""
        if (self.encoder is None) != bool(self.classes):
            raise CaptionlessError("a model has either an encoder or classes, and this one has both or neither.")
        if len(set(self.classes)) < len(self.classes) or not all(self.classes):
            raise CaptionlessError("each class of a model needs a name of its own.")
        base = self.base_size
        if self.denoiser.low_res_channels != (0 if base is None else self.denoiser.channels + 1):
            raise CaptionlessError("`base_size` must be set for a super-resolution stage, and only then.")
        if base is not None and not (0 < base < self.size and self.size % base == 0):
            raise CaptionlessError(
                f"cannot upsample from {base} to {self.size} pixels: the size must be an integer multiple of the base "
                "size."
            )

    @property
    def condition_width(self) -> int:
        """Length of its condition vectors."""
        return self.encoder.width if self.encoder else len(self.classes)

    @property
    def condition_space(self) -> tuple[str, tuple[str, ...]]:
        """The content hash of its encoder ("" without one) and its classes: equal if conditions are compatible."""
        return self.encoder.digest if self.encoder else "", self.classes

    def require_encoder(self, name: str = "") -> EncoderReference:
        """Return the encoder; raise a `CaptionlessError` that calls the model ``name`` if it is class-conditional."""
        if self.encoder is None:
            raise CaptionlessError(
                f"the model {name} is class-conditional: it has no encoder, so it takes no prompts, example images "
                f"or bridge. {list_classes(self.classes)}"
            )
        return self.encoder


def model_folder(name: str | Path, *, fetch: bool = False) -> Path:
    """Return the folder that a model's name stands for: ``bundled``, a path, or ``user/repo`` on the Hugging Face Hub.

    With ``fetch``, a model of the Hub is downloaded, which can raise a `CaptionlessError`. Otherwise its folder is only
    known once it has been loaded: recorded names, such as that of a folder since deleted, are not looked up on the Hub.
    """
    if str(name) == BUNDLED:
        return Path(str(resources.files("captionless") / "bundled" / "flowers"))
    if fetch and is_hub_id(str(name)):
        return fetch_model(str(name))
    return FETCHED.get(str(name), Path(name))


def base_folder(folder: Path) -> Path:
    """Return the folder of the base model inside the folder of a super-resolution stage."""
    old = folder / OLD_BASE
    return old if old.is_dir() and not (folder / BASE).is_dir() else folder / BASE


def save_config(folder: Path, config: ModelConfig) -> None:
    """Write ``config.json``."""
    kind = next(name for name, one in SCHEDULE_KINDS.items() if isinstance(config.schedule, one))
    values = asdict(config)
    values["schedule"] = {"kind": kind, **values["schedule"]}
    text = json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False)
    with atomic_write(folder / CONFIG) as path:
        path.write_text(text + "\n", encoding="utf-8")


def load_config(name: str | Path) -> ModelConfig:
    """Read ``config.json`` of a model, of this format or an earlier one.

    Raises:
        CaptionlessError: there is no model there, or its config is damaged, foreign or of a newer format.
    """
    folder = model_folder(name, fetch=True)
    path = folder / CONFIG
    if not path.is_file():
        kind = "is not a captionless model (no config.json in it)" if folder.is_dir() else "does not exist"
        raise CaptionlessError(f"the model folder {folder} {kind}. Name a folder that `captionless train` wrote.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ValueError("it has no `format` number")
        if values["format"] > FORMAT:
            raise CaptionlessError(
                f"{path} was written by a newer captionless (format {values['format']}). Upgrade yours."
            )
        return _validated(values if values["format"] == FORMAT else translated(values), path)
    except (OSError, ValueError) as error:
        reason = _first_error(error) if isinstance(error, ValidationError) else str(error)
        raise CaptionlessError(
            f"{path} is damaged or not of a captionless model ({reason}). Restore it, or train again."
        ) from error


@cache
def _file_type(kind: str) -> type[BaseModel]:
    """Return the types of the values in a config file with this kind of schedule."""
    types = {"format": int, **get_type_hints(ModelConfig), "schedule": SCHEDULE_KINDS[kind]}
    strict = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    required: dict[str, Any] = {name: (one, ...) for name, one in types.items()}
    return create_model("ModelFile", __config__=strict, **required)


def _validated(values: dict[str, Any], path: Path) -> ModelConfig:
    """Return the config in a file of the current format."""
    schedule, kind = values.get("schedule"), "cosine"
    if isinstance(schedule, dict):
        kind = str(schedule.get("kind", kind))
        values = {**values, "schedule": {name: value for name, value in schedule.items() if name != "kind"}}
    try:
        one_of("schedule", kind, tuple(SCHEDULE_KINDS))
        stored = _file_type(kind).model_validate_json(json.dumps(values))
        config = ModelConfig(**{one.name: getattr(stored, one.name) for one in fields(ModelConfig)})
        one_of("prediction", config.prediction, PREDICTIONS)
    except CaptionlessError as error:
        raise CaptionlessError(f"{path} does not describe a possible model: {error}") from error
    if config.size < 1 or config.size % config.denoiser.total_downsampling:
        raise ValueError(f"size: {config.size} does not pass through its denoiser")
    if not 0 <= config.denoiser.dropout < 1:
        raise ValueError(f"denoiser.dropout: it must be from 0 to less than 1, not {config.denoiser.dropout}")
    if config.condition_width != config.denoiser.condition_width:
        raise ValueError(f"denoiser.condition_width: it does not fit its {'encoder' if config.encoder else 'classes'}")
    if config.encoder and not config.encoder.logit_scale > 0:
        raise ValueError("encoder.logit_scale: it must be more than 0")
    return config


def _first_error(error: ValidationError) -> str:
    """Return key, complaint and value of the first thing that pydantic found wrong."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    value = "" if first["type"] == "missing" else f", not {json.dumps(first['input'], default=str)[:60]}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}{value}"
