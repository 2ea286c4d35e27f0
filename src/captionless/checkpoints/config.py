"""Read and write a model's ``config.json``, and locate model folders."""

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
from captionless.config.limits import MAX_SIZE
from captionless.config.training import PREDICTIONS, TrainConfig
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule
from captionless.errors import CaptionlessError, one_of
from captionless.latents.space import LatentReference
from captionless.models.unet import DenoiserConfig
from captionless.paths import kind_of, user_path
from captionless.text_files import read_json, write_text

FORMAT = 10
BUNDLED = "bundled"
CONFIG = "config.json"
BASE, OLD_BASE = "base", "small"
"""Sub-folder of a super-resolution stage that contains its base model; it was called ``small`` up to format 6."""
LEARNED = "encoder"
"""Sub-folder of a model with the encoder that was learned from the names of its images."""


@dataclass(frozen=True)
class EncoderReference:
    """A reference to a model's encoder: its name for display, and the content hash of its image side to verify it."""

    name: str
    digest: str
    width: int
    logit_scale: float


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained, for display and for resuming."""

    version: str = ""  # captionless version
    folder: str = "?"  # of the training images
    train_images: int = 0
    held_out: int = 0
    initialised_from: str | None = None  # name of the model that provided the initial weights
    base_model: str | None = None  # name of the base model, for a super-resolution stage
    encoder_reason: str = ""  # why the encoder was chosen
    labels: str = ""  # source of the labels, for a class-conditional model; see ``captionless.data.labels``
    class_images: dict[str, int] = field(default_factory=dict)  # training images per class
    settings: dict[str, Any] = field(default_factory=dict)  # fields of ``captionless.config.training.TrainConfig``
    plan: dict[str, Any] = field(default_factory=dict)  # what was planned; see ``captionless.training.plan``
    images_seen: int = 0  # during training, counting repetitions
    kept_images: int | None = None  # images seen when the weights were the best, with early stopping
    minutes: float = 0.0  # total time of the training steps
    loss: float | None = None  # final loss, smoothed

    @property
    def background(self) -> str:
        """The colour on which the model was shown transparent images."""
        return TrainConfig.from_record(self.settings).background


@dataclass(frozen=True)
class ModelConfig:
    """The content of ``config.json``; a model has either an encoder or classes."""

    size: int  # side of the images, in pixels
    denoiser: DenoiserConfig
    encoder: EncoderReference | None  # the encoder whose image vectors are the conditions
    schedule: AnySchedule = field(default_factory=CosineSchedule)
    prediction: str = "v"  # what the denoiser predicts; see ``captionless.diffusion.objective``
    training: TrainingRecord = field(default_factory=TrainingRecord)
    classes: tuple[str, ...] = ()  # class names, in the order of the one-hot conditions
    base_size: int | None = None  # side of the base model's images in pixels, for a super-resolution stage
    id: str = ""  # also in the model's tensor files, which thereby cannot be mixed up; "" for models of format 8
    base_id: str = ""  # that of the base model, for a super-resolution stage
    autoencoder: LatentReference | None = None  # whose latents are denoised; None for pixels

    def __post_init__(self) -> None:
        """Check that the fields are consistent with each other."""
        if (self.encoder is None) != bool(self.classes):
            raise CaptionlessError("a model must have either an encoder or classes, but this one has both or neither.")
        if len(set(self.classes)) < len(self.classes) or not all(self.classes):
            raise CaptionlessError("the class names of a model must be unique and not empty.")
        base = self.base_size
        if self.denoiser.low_res_channels != (0 if base is None else self.denoiser.channels + 1):
            raise CaptionlessError(
                "`base_size` must be set exactly if the denoiser has low-resolution channels, as in a super-resolution "
                "stage."
            )
        if base is not None and not (0 < base < self.size and self.size % base == 0):
            raise CaptionlessError(
                f"cannot upsample from {base} to {self.size} pixels: the size must be an integer multiple of the base "
                "size."
            )

    @property
    def factor(self) -> int:
        """Pixels per position of what is denoised, along each side."""
        return self.autoencoder.factor if self.autoencoder else 1

    @property
    def side(self) -> int:
        """Side of what is denoised; of pixels, that of the images."""
        return self.size // self.factor

    @property
    def image_channels(self) -> int:
        """Number of channels of the images: 1 for grey, 3 for colour."""
        return self.autoencoder.image_channels if self.autoencoder else self.denoiser.channels

    @property
    def condition_width(self) -> int:
        """Length of the condition vectors."""
        return self.encoder.width if self.encoder else len(self.classes)

    @property
    def condition_space(self) -> tuple[str, tuple[str, ...]]:
        """The encoder's content hash ("" if there is none) and the classes; equal if conditions are compatible."""
        return self.encoder.digest if self.encoder else "", self.classes

    def require_encoder(self, name: str = "") -> EncoderReference:
        """Return the encoder, or raise a `CaptionlessError` about the model ``name`` if it is class-conditional."""
        if self.encoder is None:
            raise CaptionlessError(
                f"the model {name} is class-conditional: it has no encoder, so it does not accept prompts, "
                f"example images or a bridge. {list_classes(self.classes)}"
            )
        return self.encoder


def model_folder(name: str | Path, *, fetch: bool = False) -> Path:
    """Return the folder of the model ``name``: ``bundled``, a path, or ``user/repo`` on the Hugging Face Hub.

    With ``fetch``, a model on the Hub is downloaded, which can raise a `CaptionlessError`. Without ``fetch``, the Hub
    is never contacted, and a Hub name resolves to its folder only if this process has already downloaded it. Names
    recorded in a config may refer to deleted folders and are therefore not looked up on the Hub.
    """
    if str(name) == BUNDLED:
        return Path(str(resources.files("captionless") / "bundled" / "flowers"))
    place = user_path(name)
    if fetch and is_hub_id(str(name)):
        return fetch_model(str(name))
    folder = FETCHED.get(str(name), place)
    user_path(folder / CONFIG)  # raises if the folder is locked
    # A cascade in training has only its base model until the second stage writes its first checkpoint.
    begun = (folder / BASE / CONFIG).is_file() and not (folder / CONFIG).is_file()
    return folder / BASE if begun else folder


def base_folder(folder: Path) -> Path:
    """Return the base model's folder inside the folder of a super-resolution stage."""
    old = folder / OLD_BASE
    return old if old.is_dir() and not (folder / BASE).is_dir() else folder / BASE


def encoder_place(folder: Path, reference: EncoderReference) -> str:
    """Return where to load a model's encoder from: the model's folder, even if it was moved, or the recorded name."""
    own = (place for place in (folder / LEARNED, folder / BASE / LEARNED) if place.is_dir())
    return str(next(own, reference.name))


def config_values(config: ModelConfig) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    kind = next(name for name, one in SCHEDULE_KINDS.items() if isinstance(config.schedule, one))
    values = asdict(config)
    values["schedule"] = {"kind": kind, **values["schedule"]}
    return {"format": FORMAT, **values}


def save_config(folder: Path, config: ModelConfig) -> None:
    """Write ``config.json``."""
    text = json.dumps(config_values(config), indent=2, ensure_ascii=False)
    write_text(folder / CONFIG, text + "\n", "replace")  # paths may hold any bytes


def load_config(name: str | Path) -> ModelConfig:
    """Read a model's ``config.json``, in the current or an earlier format.

    Raises:
        CaptionlessError: the folder does not contain a model, or its config is damaged, invalid or in a newer format.
    """
    folder = model_folder(name, fetch=True)
    path = folder / CONFIG
    if (there := kind_of(path)) not in ("a file", "nothing"):
        raise _damaged(path, f"it is {there}, not a file")
    if not path.is_file():
        kind = kind_of(folder)
        problem = {"a folder": "is not a captionless model (it has no config.json)", "nothing": "does not exist"}
        what = problem.get(kind, f"is {kind}, not a folder")
        raise CaptionlessError(f"the model folder {folder} {what}. Pass a folder written by `captionless train`.")
    try:
        return parse_config(read_json(path), path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def parse_config(values: Any, path: Path) -> ModelConfig:
    """Return a config from the content of a ``config.json`` in the current or an earlier format.

    Raises:
        CaptionlessError: as in `load_config`; the message names ``path``.
    """
    try:
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ValueError("it has no `format` number")
        if values["format"] > FORMAT:
            raise CaptionlessError(
                f"{path} was written by a newer version of captionless (format {values['format']}). Upgrade "
                "captionless."
            )
        return _validated(values if values["format"] == FORMAT else translated(values), path)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, _first_error(error) if isinstance(error, ValidationError) else str(error)) from error


def _damaged(path: Path, reason: str) -> CaptionlessError:
    return CaptionlessError(
        f"{path} is damaged or does not describe a captionless model ({reason}). Restore the file, or train again."
    )


@cache
def _file_type(kind: str) -> type[BaseModel]:
    """Return a pydantic model of ``config.json`` with this kind of schedule."""
    types = {"format": int, **get_type_hints(ModelConfig), "schedule": SCHEDULE_KINDS[kind]}
    strict = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    required: dict[str, Any] = {name: (one, ...) for name, one in types.items()}
    return create_model("ModelFile", __config__=strict, **required)


def _validated(values: dict[str, Any], path: Path) -> ModelConfig:
    """Validate the content of a ``config.json`` in the current format, and return it as a config."""
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
        raise CaptionlessError(
            f"{path} does not describe a valid model: {error} Restore the file, or train again."
        ) from error
    step = config.denoiser.total_downsampling * config.factor
    if not 1 <= config.size <= MAX_SIZE or config.size % step:
        raise ValueError(f"size: {config.size} is not a positive multiple of {step} of at most {MAX_SIZE}")
    if not 0 <= config.denoiser.dropout < 1:
        raise ValueError(f"denoiser.dropout: must be at least 0 and less than 1, not {config.denoiser.dropout}")
    if config.condition_width != config.denoiser.condition_width:
        raise ValueError(f"denoiser.condition_width: does not match the {'encoder' if config.encoder else 'classes'}")
    if config.encoder and not config.encoder.logit_scale > 0:
        raise ValueError("encoder.logit_scale: must be greater than 0")
    return config


def _first_error(error: ValidationError) -> str:
    """Return the key, message and value of pydantic's first error."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    value = "" if first["type"] == "missing" else f", not {json.dumps(first['input'], default=str)[:60]}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}{value}"
