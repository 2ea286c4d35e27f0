"""Find what a training run starts from: random weights, another model's weights, or its own last checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from captionless.checkpoints.config import CONFIG, ModelConfig, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import read_image_list
from captionless.checkpoints.model import STATE
from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class Start:
    """What a training run starts from.

    Args:
        config: the config of the model that is resumed or started from; None for random weights.
        initialised_from: the name of the model started from, if any.
        resumed: whether the run that ``config`` belongs to continues.
        base: the folder of the base model, for a super-resolution stage.
    """

    config: ModelConfig | None = None
    initialised_from: str | None = None
    resumed: bool = False
    base: Path | None = None

    @cached_property
    def bound(self) -> ModelConfig | None:
        """The model config whose encoder or classes this run must use (the base model's, if there is one)."""
        return load_config(self.base) if self.base else self.config

    @property
    def base_size(self) -> int | None:
        """Side of the base model's images, for a super-resolution stage."""
        return self.bound.size if self.base and self.bound else None

    @property
    def same_condition_space(self) -> bool:
        """Whether the model started from, if any, has the encoder or classes of ``bound``."""
        return self.config is None or (
            self.bound is not None and self.config.condition_space == self.bound.condition_space
        )


def find_start(
    folder: Path, out: Path, start_from: str | Path | None, enlarge: str | Path | None, resume: bool
) -> Start:
    """Decide where to start from what is in ``out``; refuse what would overwrite or mix models.

    A super-resolution stage can only start from another one; any other model starts from a base model.
    """
    _check_out(folder, out)
    exists = (out / CONFIG).exists()
    name = None if start_from is None else str(start_from)
    if exists and not resume:
        raise CaptionlessError(
            f"{out} already holds a model. Continue its training with `resume=True`, or choose another `out`."
        )
    if not exists:
        base = _base_of(enlarge) if enlarge is not None else None
        config = load_config(initial_folder(name, upsamples=base is not None)) if name else None
        return Start(config, name, base=base)
    config = load_config(out)
    begun = config.training.initialised_from
    if name is not None and name != begun:
        raise CaptionlessError(
            f"the run in {out} was started from {begun or 'random weights'}, not from {name}. Leave `start_from` "
            "out to resume it, or choose another `out`."
        )
    if not (out / STATE).is_file() or not read_image_list(out):
        raise CaptionlessError(
            f"{out} cannot be resumed: its training state or its pictures.csv is missing. To continue from its "
            f"weights, start a new run in another folder with `start_from={out}`."
        )
    of = config.training.base_model
    if enlarge is not None and str(enlarge) != of:
        what = f"upsamples the images of {of}" if of else "has no base model"
        raise CaptionlessError(f"the model in {out} {what}. Leave `enlarge` out to resume it, or choose another `out`.")
    return Start(config, begun, resumed=True, base=base_folder(out) if config.base_size else None)


def initial_folder(name: str | Path, upsamples: bool) -> Path:
    """Return the folder with the initial weights for a training run started from the model ``name``.

    Args:
        name: the model to start from.
        upsamples: whether the training run is for a super-resolution stage.

    Raises:
        CaptionlessError: a super-resolution stage was asked to start from a model that is not a super-resolution stage.
    """
    if not upsamples:
        return _base_of(name)
    if load_config(name).base_size is None:
        raise CaptionlessError(
            f"a super-resolution stage cannot start from {name}, which is not one. Leave `start_from` out; `enlarge` "
            "names the base model."
        )
    return model_folder(name)


def _base_of(name: str | Path) -> Path:
    """Return the folder of the model called ``name`` or, if that is a super-resolution stage, of its base model."""
    folder = model_folder(name)
    return folder if load_config(name).base_size is None else base_folder(folder)


def _check_out(folder: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise CaptionlessError(f"`out={out}` is a file. Choose a folder.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise CaptionlessError(
            f"`out={out}` is inside {folder}: its sample grids would count as training images. Choose a folder outside."
        )
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not os.access(nearest, os.W_OK):
        raise CaptionlessError(
            f"`out={out}` cannot be written: you have no permission to write in {nearest}. Choose another folder."
        )
