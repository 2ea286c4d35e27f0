"""Find what a training run starts from: random weights, another model's weights, or its own last checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from captionless.checkpoints.config import BASE, CONFIG, ModelConfig, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import read_image_list
from captionless.checkpoints.model import MODEL_FILES, STATE
from captionless.config.train_request import TrainRequest
from captionless.errors import CaptionlessError
from captionless.latents.autoencoder import load_autoencoder
from captionless.latents.space import PIXELS, LatentSpace, Space, autoencoder_place, open_space
from captionless.paths import kind_of, same_path

LOCK = "training/.lock"
"""The file that a training run locks; a folder that has it was begun by one."""
REPORT, RECORD = "images-report.csv", "evaluations.jsonl"
"""What became of each file of the image folder, and the results of validation."""
BEST, SAMPLES = "best", "samples"
"""The sub-folders of the model folder for the best model so far, and for sample grids."""


@dataclass(frozen=True)
class Start:
    """The starting point of a training run."""

    config: ModelConfig | None = None  # of the resumed or initial model; None for random weights
    initialised_from: str | None = None  # the name of the initial model
    resumed: bool = False  # whether the run of ``config`` is continued
    base: Path | None = None  # the folder of the base model, for a super-resolution stage
    space: Space = PIXELS  # what is denoised

    @cached_property
    def base_config(self) -> ModelConfig | None:
        """The config of the base model, if there is one."""
        return load_config(self.base) if self.base else None

    @property
    def bound(self) -> ModelConfig | None:
        """The config of the model whose encoder or classes this run must use; a base model takes precedence."""
        return self.base_config or self.config

    @property
    def same_condition_space(self) -> bool:
        """Whether the initial model, if any, has the same encoder or classes as ``bound``."""
        own, bound = self.config, self.bound
        return own is None or bound is None or own.condition_space == bound.condition_space


def find_start(request: TrainRequest) -> Start:
    """Return the starting point of a run; raise if the run would overwrite a model or mix two models.

    A super-resolution stage can only start from another super-resolution stage. Any other run that is given a model
    with two stages starts from its base model.
    """
    check_out(request.folder, request.out)
    if not (request.out / CONFIG).exists():
        check_own(request.out)
        base = None if request.enlarge is None else _base_of(request.enlarge)
        if base and not same_path(base, request.out / BASE):  # it is copied there
            check_own(request.out / BASE)
        name = None if request.start_from is None else str(request.start_from)
        folder = start_folder(name, upsamples=base is not None) if name else request.out
        config = load_config(folder) if name else None
        place = autoencoder_place(folder, config.autoencoder) if config and config.autoencoder else None
        return Start(config, name, base=base, space=_space(request, config, folder, place))
    if not request.resume and (request.out / CONFIG).is_file():
        raise model_exists(request.out)
    return _resumed(request, request.out)


def _resumed(request: TrainRequest, out: Path) -> Start:
    config = load_config(out)
    if not (out / STATE).is_file() or not read_image_list(out):
        raise cannot_resume(out, "its training state or its pictures.csv is missing")
    record = config.training
    for name, before in (("start_from", record.initialised_from), ("enlarge", record.base_model)):
        given = getattr(request, name)
        if given is not None and not (before and same_path(given, before)):
            raise CaptionlessError(
                f"the run in {out} was started {f'with `{name}={before}`' if before else f'without `{name}`'}, and "
                f"cannot be resumed with {given}. Leave `{name}` out to resume it, or choose another `out`.",
                parameter=name,
                value=given,
                code="contradicts_model",
            )
    base = base_folder(out) if config.base_size else None
    return Start(config, record.initialised_from, True, base, _space(request, config, out))


def _space(request: TrainRequest, config: ModelConfig | None, folder: Path, place: str | None = None) -> Space:
    """Return what is denoised: that of the model in ``folder``, which the run continues, or what is asked for.

    The run records ``place``, or that of the request, as the place of the autoencoder, else what the model records.
    """
    named, known = request.autoencoder, config.autoencoder if config else None
    if config and named is not None and known is None:
        raise CaptionlessError(
            "`autoencoder` conflicts with the model that this run continues, which denoises pixels. Leave it out, or "
            "train a new model.",
            parameter="autoencoder",
            value=named,
            code="contradicts_model",
        )
    if config is None and named is not None:
        space: Space = LatentSpace(load_autoencoder(named))
    else:
        space = open_space(known, folder, named or place)
    if request.include_autoencoder and space.reference is None:
        raise CaptionlessError(
            "`include_autoencoder` has no effect without `autoencoder`. Add `autoencoder`, or leave it out.",
            parameter="include_autoencoder",
            code="conflicting_settings",
        )
    return space


def model_exists(out: Path) -> CaptionlessError:
    """Return the error for a run that would overwrite a model."""
    return CaptionlessError(
        f"{out} already contains a model. Resume its training with `resume=True`, or choose another `out`.",
        parameter="out",
        value=out,
        code="model_exists",
    )


def cannot_resume(out: Path, why: str) -> CaptionlessError:
    """Return the error for a run that cannot be resumed exactly."""
    return CaptionlessError(
        f"the run in {out} cannot be resumed: {why}. To continue from its weights, start a new run in another folder "
        f"with `start_from={out}`.",
        parameter="resume",
        value=True,
        code="cannot_resume",
    )


def start_folder(name: str | Path, upsamples: bool) -> Path:
    """Return the folder of the weights to start from in the model ``name``.

    Raises:
        CaptionlessError: the run trains a super-resolution stage (``upsamples``), but the model has none.
    """
    if not upsamples:
        return _base_of(name)
    if load_config(name).base_size is None:
        raise CaptionlessError(
            f"a super-resolution stage cannot start from {name}, which has no such stage. Leave `start_from` "
            "out, and pass the base model as `enlarge`.",
            parameter="start_from",
            value=name,
            code="contradicts_model",
        )
    return model_folder(name)


def _base_of(name: str | Path) -> Path:
    """Return the folder of the model ``name`` or, if it has a super-resolution stage, of its base model."""
    stacked = load_config(name).base_size is not None  # this downloads a model of the Hub, which gives it a folder
    return base_folder(model_folder(name)) if stacked else model_folder(name)


def check_own(out: Path) -> None:
    """Raise if training would replace files that were not written by an earlier run."""
    if not is_begun(out):
        check_foreign(out)


def is_begun(out: Path) -> bool:
    """Return whether a training run has written to a folder, so that its files may be replaced."""
    return (out / LOCK).exists() or (out / CONFIG).exists()


def check_foreign(out: Path) -> None:
    """Raise if a folder has files that training would replace."""
    names = [*MODEL_FILES, STATE, REPORT, RECORD, *(f"{BEST}/{name}" for name in MODEL_FILES)]
    found = [name for name in names if os.path.lexists(out / name)]
    found += [f"{SAMPLES}/{path.name}" for path in sorted((out / SAMPLES).glob("[0-9]*.png"))[:1]]
    if found:
        raise CaptionlessError(
            f"`out={out}` is no model folder, but has files that training would replace: {', '.join(found)}. Choose "
            "another folder.",
            parameter="out",
            value=out,
            code="folder_in_use",
        )


def check_out(folder: str | Path, out: Path) -> None:
    """Raise if the folder to write is inside the folder of images, or cannot be written."""
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if out.resolve().is_relative_to(Path(folder).resolve()):
        why = f"is inside {folder}: its sample grids would count as training images. Choose a folder outside it"
    elif not nearest.is_dir():
        why = f"cannot be created: {nearest} is {kind_of(nearest)}. Choose another folder"
    elif not os.access(nearest, os.W_OK):
        why = f"cannot be written to: you have no write permission for {nearest}. Choose another folder"
    else:
        return
    raise CaptionlessError(f"`out={out}` {why}.", parameter="out", value=out, code="invalid_setting")
