"""The model folder: what a trained model is on disk.

    config.json            shape of the denoiser, schedule, encoder (name, content hash), how it was trained
    model.safetensors      the averaged weights, which paint
    bank.safetensors       image vectors of training pictures, for the bridge from words
    pictures.csv           content hash, name and role (train, held out) of every picture
    README.md CREDITS.csv  the model card, and whom the pictures are owed to
    samples/               contact sheets drawn while it learned
    training/              what --resume needs; may be deleted from a finished model

Every file is replaced in one step, so a crash leaves the last good checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from captionless.denoiser import Denoiser, DenoiserConfig
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.schedule import CosineSchedule

FORMAT = 1
BUNDLED = "bundled"
CONFIG, WEIGHTS, BANK, STATE = "config.json", "model.safetensors", "bank.safetensors", "training/state.safetensors"

Config = TypeVar("Config", "DenoiserConfig", "EncoderReference", "CosineSchedule")
_KINDS = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "an object"}
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
        encoder: the encoder whose vectors are its conditions.
        training: how it was trained (settings, pictures, images seen, minutes, ancestry); for people and resume.
    """

    size: int
    denoiser: DenoiserConfig
    encoder: EncoderReference
    schedule: CosineSchedule = field(default_factory=CosineSchedule)
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model in memory: its config, its denoiser (in evaluation mode, float32) and its bank (m, d)."""

    name: str
    config: ModelConfig
    denoiser: Denoiser
    bank: Tensor


def model_folder(name: str | Path) -> Path:
    """Return the folder that a model's name stands for: ``bundled``, or a path."""
    if str(name) == BUNDLED:
        return Path(str(resources.files("captionless") / "bundled" / "flowers"))
    return Path(name)


def save_config(folder: Path, config: ModelConfig) -> None:
    """Write ``config.json``."""
    text = json.dumps({"format": FORMAT, **asdict(config)}, indent=2, ensure_ascii=False)
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
    bank = read_tensors(folder / BANK).get("vectors")
    if bank is None or bank.ndim != 2 or not len(bank) or bank.shape[1] != config.encoder.width:
        raise CaptionlessError(f"{folder / BANK} does not fit {folder / CONFIG}. Restore it, or train again.")
    return Model(str(name), config, denoiser.eval().requires_grad_(False), bank.float())


def load_weights(denoiser: Denoiser, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy stored weights (of any float type) into ``denoiser``; every name and shape must match."""
    try:
        denoiser.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
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
            size=_typed("size", values["size"], int),
            denoiser=_build(DenoiserConfig, "denoiser", values["denoiser"]),
            encoder=_build(EncoderReference, "encoder", values["encoder"]),
            schedule=_build(CosineSchedule, "schedule", values["schedule"]),
            training=_training(values["training"]),
        )
    except CaptionlessError as error:
        raise CaptionlessError(f"{path} describes no model that can be: {error}") from error
    if config.size < 1 or config.size % config.denoiser.total_downsampling:
        raise ValueError(f"size {config.size} does not pass through its denoiser")
    if not 0 <= config.denoiser.dropout < 1:
        raise ValueError(f"denoiser.dropout must be from 0 to less than 1, not {config.denoiser.dropout}")
    if config.encoder.width != config.denoiser.condition_width or not config.encoder.logit_scale > 0:
        raise ValueError("its encoder and its denoiser do not fit each other")
    return config


def _build(kind: type[Config], where: str, values: Any) -> Config:
    """Make a dataclass of what JSON holds, each value of the type that its field declares."""
    types = get_type_hints(kind)
    values = _typed(where, values, dict)
    unknown = set(values) - set(types)
    if unknown:
        raise ValueError(f"{where}.{min(unknown)} is not known")
    return kind(**{name: _typed(f"{where}.{name}", value, types[name]) for name, value in values.items()})


def _typed(where: str, value: Any, kind: Any) -> Any:
    """Return ``value`` if it is of the type ``kind``; a list of whole numbers becomes a tuple."""
    if kind == tuple[int, ...]:
        return tuple(_typed(f"{where}[{i}]", item, int) for i, item in enumerate(_typed(where, value, list)))
    kinds = (int, float) if kind is float else kind
    # To Python, true is a whole number and NaN a number; here they are mistakes.
    if not isinstance(value, kinds) or isinstance(value, bool) or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{where} must be {_KINDS[kind]}, not {json.dumps(value)[:60]}")
    return value


def _training(values: Any) -> dict[str, Any]:
    """Return what is told of the training, the values that are reckoned with being of their types."""
    training: dict[str, Any] = _typed("training", values, dict)
    for name, kind in _TRAINING.items():
        if name in training:
            _typed(f"training.{name}", training[name], kind)
    return training


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in float16: half the file, no visible difference."""
    return {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
