"""The model folder: what a trained model is on disk.

    config.json            shape of the denoiser, schedule, encoder (name, content hash), how it was trained
    model.safetensors      the averaged weights, which paint
    bank.safetensors       image vectors of training pictures, for the bridge from words; not in a model of classes
    means.safetensors      the mean of their subject's text vectors, for another bridge
    pictures.csv           content hash, name and role (train, held out, copy) of every picture
    README.md CREDITS.csv  the model card, and whom the pictures are owed to
    samples/               contact sheets drawn while it learned
    training/              what --resume needs; may be deleted from a finished model
    small/                 of a model that enlarges: the model of small pictures, a whole model folder (with the bank)

Every file is replaced in one step, so a crash leaves the last good checkpoint.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from captionless.checkpoints.json_values import build, typed
from captionless.checkpoints.quantisation import restored
from captionless.conditioning.bridge import BridgeData
from captionless.conditioning.classes import list_classes
from captionless.config.training import PREDICTIONS
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule
from captionless.errors import CaptionlessError, one_of
from captionless.files import atomic_write
from captionless.models.unet import Denoiser, DenoiserConfig

FORMAT = 6
"""1 knew no other schedule than the cosine and no other prediction than v; 2 knew no bypass in the denoiser; 3 knew no
shift of the cosine schedule; 4 knew no model that enlarges another's pictures; 5 knew no weights in 8 bits."""
BUNDLED = "bundled"
CONFIG, WEIGHTS, STATE = "config.json", "model.safetensors", "training/state.safetensors"
BANK, MEANS = "bank.safetensors", "means.safetensors"
SMALL = "small"
_ABOUT = ("pictures.csv", "README.md", "CREDITS.csv", "CREDITS-begun-from.csv")

_TRAINING = {"settings": dict, "folder": str, "pictures": int, "held_out": int, "images": int, "minutes": float}


@dataclass(frozen=True)
class EncoderReference:
    """Which encoder a model understands: its name for people, its content hash for certainty."""

    name: str
    digest: str
    width: int
    logit_scale: float


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` holds.

    Args:
        size: side of the pictures, in pixels.
        denoiser: shape of the network.
        schedule: the noise schedule.
        prediction: what the denoiser answers; see ``captionless.diffusion.objective``.
        encoder: the encoder whose vectors are its conditions; None for a model of classes.
        classes: the names of its classes, in the order of the elements of its one-hot conditions; none for a model of
            words. A model has either an encoder or classes.
        enlarges: side of the small pictures that it enlarges, in pixels; None for a model that paints from noise alone.
        training: how it was trained (settings, pictures, images seen, minutes, ancestry); for people and resume.
    """

    size: int
    denoiser: DenoiserConfig
    encoder: EncoderReference | None
    schedule: AnySchedule = field(default_factory=CosineSchedule)
    prediction: str = "v"
    training: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    enlarges: int | None = None

    def __post_init__(self) -> None:
        """Refuse a model that nothing can be asked of, or two kinds of things."""
        if (self.encoder is None) != bool(self.classes):
            raise CaptionlessError("a model has either an encoder or classes, and this one has both or neither.")
        if len(set(self.classes)) < len(self.classes) or not all(self.classes):
            raise CaptionlessError("each class of a model needs a name of its own.")
        small, beside = self.enlarges, self.denoiser.beside
        if beside != (0 if small is None else self.denoiser.channels + 1):
            raise CaptionlessError(
                "a model that enlarges sees the small picture beside the large one, and no other does."
            )
        if small is not None and not (0 < small < self.size and self.size % small == 0):
            raise CaptionlessError(f"pictures of {small} pixels are not enlarged to {self.size}: no whole multiple.")

    @property
    def condition_width(self) -> int:
        """Length of its condition vectors."""
        return self.encoder.width if self.encoder else len(self.classes)

    @property
    def understands(self) -> tuple[str, tuple[str, ...]]:
        """What its conditions mean, for comparison: the content hash of its encoder (or nothing), and its classes."""
        return self.encoder.digest if self.encoder else "", self.classes

    def words(self, name: str = "") -> EncoderReference:
        """Return the encoder that gives words a meaning.

        Raises:
            CaptionlessError: the model (called ``name`` in the message) is one of classes.
        """
        if self.encoder is None:
            raise CaptionlessError(
                f"the model {name} paints classes: it has no encoder, so that words, pictures to be like and bridges "
                f"mean nothing to it. {list_classes(self.classes)}"
            )
        return self.encoder


@dataclass(frozen=True)
class Model:
    """A model in memory.

    Args:
        name: as it was asked for.
        config: what ``config.json`` holds.
        denoiser: in evaluation mode, float32.
        bank: unit image vectors of training pictures, (m, d); (0, d) in a model of classes.
        text_mean: mean of the vectors of prompts about its subject, (d,); None in models of format 1.
        small: the model whose pictures it enlarges, if it does.
    """

    name: str
    config: ModelConfig
    denoiser: Denoiser
    bank: Tensor
    text_mean: Tensor | None = None
    small: Model | None = None

    @property
    def bridge_data(self) -> BridgeData:
        """What the bridge from words needs."""
        return BridgeData(self.bank, 1 / self.config.words(self.name).logit_scale, self.text_mean)


def model_folder(name: str | Path) -> Path:
    """Return the folder that a model's name stands for: ``bundled``, or a path."""
    if str(name) == BUNDLED:
        return Path(str(resources.files("captionless") / "bundled" / "flowers"))
    return Path(name)


def save_config(folder: Path, config: ModelConfig) -> None:
    """Write ``config.json``."""
    kind = next(name for name, one in SCHEDULE_KINDS.items() if isinstance(config.schedule, one))
    values = asdict(config)
    values["schedule"] = {"kind": kind, **values["schedule"]}
    text = json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False)
    with atomic_write(folder / CONFIG) as path:
        path.write_text(text + "\n", encoding="utf-8")


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file in one step.

    Raises:
        CaptionlessError: it cannot be written (no space, no permission).
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_config(name: str | Path) -> ModelConfig:
    """Read ``config.json`` of a model.

    Raises:
        CaptionlessError: there is no model there, or it is damaged, foreign or of a newer format.
    """
    folder = model_folder(name)
    path = folder / CONFIG
    if not path.is_file():
        kind = "is not a captionless model (no config.json in it)" if folder.is_dir() else "does not exist"
        raise CaptionlessError(f"the model folder {folder} {kind}. Name a folder that `captionless train` wrote.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _config_from_dict(values, path)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CaptionlessError(
            f"{path} is damaged or not of a captionless model ({reason}). Restore it, or train again."
        ) from error


def load_model(name: str | Path) -> Model:
    """Read a whole model; nothing is unpickled.

    Raises:
        CaptionlessError: as ``load_config``; or weights are missing, damaged or of another shape.
    """
    folder, config = model_folder(name), load_config(name)
    denoiser = Denoiser(config.denoiser)
    load_weights(denoiser, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    small = _load_small(folder, config)
    bank, text_mean = (small.bank, small.text_mean) if small else _read_bank(folder, config)
    return Model(str(name), config, denoiser.eval().requires_grad_(False), bank, text_mean, small)


def _load_small(folder: Path, config: ModelConfig) -> Model | None:
    if config.enlarges is None:
        return None
    small = load_model(folder / SMALL)
    fits = small.config.size == config.enlarges and small.config.denoiser.channels == config.denoiser.channels
    if not fits or small.config.understands != config.understands:
        raise CaptionlessError(
            f"{folder / SMALL} is not the model whose pictures {folder} enlarges. Restore it, or train again."
        )
    return small


def _read_bank(folder: Path, config: ModelConfig) -> tuple[Tensor, Tensor | None]:
    if config.encoder is None:
        return torch.empty(0, config.condition_width), None
    width = config.encoder.width
    bank = read_tensors(folder / BANK).get("vectors")
    if bank is None or bank.ndim != 2 or not len(bank) or bank.shape[1] != width:
        raise CaptionlessError(f"{folder / BANK} does not fit {folder / CONFIG}. Restore it, or train again.")
    if not (folder / MEANS).exists():  # as in models of format 1
        return bank.float(), None
    text_mean = read_tensors(folder / MEANS).get("text")
    if text_mean is None or text_mean.shape != (width,):
        raise CaptionlessError(f"{folder / MEANS} does not fit {folder / CONFIG}. Restore it, or train again.")
    return bank.float(), text_mean.float()


def copy_model(source: Path, target: Path) -> None:
    """Copy what paints of a model, and what people should know of it; last the config that makes it a model."""
    for name in (WEIGHTS, BANK, MEANS, *_ABOUT, CONFIG):
        if (source / name).is_file():
            with atomic_write(target / name) as path:
                shutil.copyfile(source / name, path)


def load_weights(denoiser: Denoiser, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy stored weights (of any float type, or in 8 bits) into ``denoiser``; every name and shape must match."""
    try:
        denoiser.load_state_dict(restored(tensors))
    except RuntimeError as error:
        raise CaptionlessError(
            f"the weights in {path} do not fit the config.json beside them. Restore both from one model."
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into memory."""
    if not path.is_file():
        raise CaptionlessError(f"{path} is missing: the model folder is incomplete. Restore it, or train again.")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CaptionlessError(f"{path} is damaged ({error}). Restore it, or train again.") from error
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Return the text that was stored with the tensors in ``path``."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _config_from_dict(values: dict[str, Any], path: Path) -> ModelConfig:
    if values["format"] > FORMAT:
        raise CaptionlessError(f"{path} was written by a newer captionless (format {values['format']}). Upgrade yours.")
    try:
        config = ModelConfig(
            size=typed("size", values["size"], int),
            denoiser=build(DenoiserConfig, "denoiser", values["denoiser"]),
            encoder=None if values["encoder"] is None else build(EncoderReference, "encoder", values["encoder"]),
            classes=typed("classes", values.get("classes", []), tuple[str, ...]),
            schedule=_schedule(typed("schedule", values["schedule"], dict)),
            prediction=typed("prediction", values.get("prediction", "v"), str),
            enlarges=None if values.get("enlarges") is None else typed("enlarges", values["enlarges"], int),
            training=_training(values["training"]),
        )
        one_of("prediction", config.prediction, PREDICTIONS)
    except CaptionlessError as error:
        raise CaptionlessError(f"{path} describes no model that can be: {error}") from error
    if config.size < 1 or config.size % config.denoiser.total_downsampling:
        raise ValueError(f"size {config.size} does not pass through its denoiser")
    if not 0 <= config.denoiser.dropout < 1:
        raise ValueError(f"denoiser.dropout must be from 0 to less than 1, not {config.denoiser.dropout}")
    if config.condition_width != config.denoiser.condition_width:
        raise ValueError(f"its {'encoder' if config.encoder else 'classes'} and its denoiser do not fit each other")
    if config.encoder and not config.encoder.logit_scale > 0:
        raise ValueError("encoder.logit_scale must be more than 0")
    return config


def _schedule(values: dict[str, Any]) -> AnySchedule:
    kind = typed("schedule.kind", values.get("kind", "cosine"), str)
    one_of("schedule", kind, tuple(SCHEDULE_KINDS))
    rest = {name: value for name, value in values.items() if name != "kind"}
    return build(SCHEDULE_KINDS[kind], "schedule", rest)


def _training(values: Any) -> dict[str, Any]:
    """Return what is told of the training, the values that are reckoned with being of their types."""
    training: dict[str, Any] = typed("training", values, dict)
    for name, kind in _TRAINING.items():
        if name in training:
            typed(f"training.{name}", training[name], kind)
    return training


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in float16: half the file, no visible difference."""
    return {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
