"""The verb ``train``: a folder of pictures becomes a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Unpack

import torch
from accelerate import Accelerator

import captionless
from captionless import checkpoint, trainer
from captionless.checkpoint import EncoderReference, ModelConfig, load_config, load_model
from captionless.denoiser import Denoiser, DenoiserConfig, default_patch, grow
from captionless.errors import CaptionlessError
from captionless.keeper import Keeper, Log
from captionless.model_card import read_pictures
from captionless.precision import default_device, resolve_precision
from captionless.settings import LENGTH, GivenSettings, TrainSettings, check_unchanged, settings_from_dict
from captionless.sheet_painter import SheetPainter
from captionless.stopping import StopRequest, stop_requests
from captionless.training_pictures import TrainingPictures, gather


class Observer(Protocol):
    """Who watches a training; the command line draws bars, ``Silent`` does nothing."""

    def say(self, message: str) -> None:
        """Take a sentence for the person in front of the screen."""

    def reading(self, done: int, total: int) -> None:
        """Take the progress of reading and embedding pictures."""

    def step(self, training: trainer.Training, settings: TrainSettings) -> None:
        """Take the state after a step."""


class Silent:
    """An observer that keeps quiet."""

    def say(self, message: str) -> None:
        """Ignore it."""

    def reading(self, done: int, total: int) -> None:
        """Ignore it."""

    def step(self, training: trainer.Training, settings: TrainSettings) -> None:
        """Ignore it."""


def train(
    folder: str | Path,
    out: str | Path,
    *,
    encoder: str | None = None,
    vectors: str | Path | None = None,
    start_from: str | Path | None = None,
    resume: bool = False,
    sample_prompts: Sequence[str] = (),
    tensorboard: bool = False,
    observer: Observer | None = None,
    **given: Unpack[GivenSettings],
) -> Path:
    """Teach a denoiser to paint what the pictures in ``folder`` show; write a model folder.

    Args:
        folder: pictures, in any sub-folders; nothing else is needed.
        out: the model folder to write.
        encoder: a hub id, a local folder, ``bundled`` or ``auto`` (the default: the bundled encoder where it
            knows what the pictures show, else CLIP). With ``start_from`` or ``resume`` it is that model's.
        vectors: a CSV of image vectors computed before (path, then numbers); needs ``encoder``.
        start_from: a model (``bundled`` or a folder) whose weights to begin with; size and width may grow.
        resume: go on with the training in ``out``; ``images`` and ``minutes`` are totals over all resumes.
        sample_prompts: what to paint on the contact sheets drawn while it learns.
        tensorboard: also write a TensorBoard log to ``out/log``.
        observer: whom to tell about progress.
        given: settings that differ from the defaults of ``captionless.settings.TrainSettings``.

    Returns:
        The model folder.

    Raises:
        CaptionlessError: bad input; it says what to do.
        KeyboardInterrupt: Ctrl-C or a termination was asked for; a checkpoint has been written first.
    """
    folder, out, observer = Path(folder), Path(out), observer or Silent()
    start = _start(out, start_from, resume, observer)
    settings = _settings(start, given)
    accelerator = _accelerator(settings)
    pictures = gather(folder, out, settings, start.config, encoder, vectors, observer)
    if start.resumed:
        _check_same_pictures(out, pictures, folder)
    network, config = _network(settings, pictures, start, folder)
    on_device = network.to(accelerator.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = trainer.begin(on_device, settings)
    if start.resumed:
        trainer.restore_state(out, training)
        if trainer.progress(training.counter, settings) == 1:
            observer.say("This training has its full length already; a larger --minutes or --images goes on with it.")
    data = trainer.TrainingData(pictures.train.pixels, pictures.train.vectors)
    painter = SheetPainter(config, pictures, sample_prompts)
    keeper = Keeper(out, config, settings, pictures, folder, painter)
    log = Log(out / "log" if tensorboard else None)
    main = accelerator.is_main_process
    with stop_requests() as stop:
        hook = partial(_after_step, main=main, settings=settings, keeper=keeper, log=log, observer=observer, stop=stop)
        try:
            trainer.run(training, data, config.schedule, settings, accelerator, hook)
        finally:
            log.close()
    if main:
        keeper.save(training)
    return out


@dataclass(frozen=True)
class _Start:
    """Where a training starts: nowhere, at another model (its name given), or where it stopped."""

    config: ModelConfig | None = None
    model: str | None = None
    resumed: bool = False


def _start(out: Path, start_from: str | Path | None, resume: bool, observer: Observer) -> _Start:
    exists = (out / checkpoint.CONFIG).exists()
    name = None if start_from is None else str(start_from)
    if exists and not resume:
        raise CaptionlessError(f"{out} already holds a model. Add --resume to go on with it, or choose another --out.")
    if out.exists() and not out.is_dir():
        raise CaptionlessError(f"--out {out} is a file. Choose a folder.")
    if not exists:
        if resume:
            observer.say(f"Nothing to resume in {out} yet: this training starts at its beginning.")
        return _Start(load_config(name) if name else None, name)
    config = load_config(out)
    begun = config.training.get("from")
    if name is not None and name != begun:
        raise CaptionlessError(
            f"--resume goes on with {out}, which was begun from {begun or 'nothing'}, not from {name}. "
            "Leave --from out, or choose another --out."
        )
    return _Start(config, begun, resumed=True)


def _settings(start: _Start, given: GivenSettings) -> TrainSettings:
    """Return the recorded settings (resume), or the given ones over the defaults or over the model begun from."""
    if start.config is None:
        return TrainSettings(**given)
    if start.resumed:
        recorded = settings_from_dict(start.config.training["settings"])
        check_unchanged(given, recorded)
        changes: dict[str, Any] = {name: value for name, value in given.items() if name in LENGTH}
        return replace(recorded, **changes)
    shape = start.config.denoiser
    inherited: GivenSettings = {"size": start.config.size, "width": shape.width, "grey": shape.channels == 1}
    return TrainSettings(**(inherited | given))


def _accelerator(settings: TrainSettings) -> Accelerator:
    precision = resolve_precision(settings.precision, default_device())
    return Accelerator(mixed_precision="bf16" if precision == "bf16" else "no")


def _network(
    settings: TrainSettings, pictures: TrainingPictures, start: _Start, folder: Path
) -> tuple[Denoiser, ModelConfig]:
    """Return the network to train and the config of the model it will be."""
    encoder = pictures.encoder
    if start.config is not None:
        old = start.config
        grown = max(1, settings.size // old.size)
        patch = max(old.denoiser.patch, min(old.denoiser.patch * grown, default_patch(settings.size)))
        shape = replace(old.denoiser, patch=patch, width=settings.width, dropout=settings.dropout)
    else:
        shape = DenoiserConfig(
            settings.channels,
            default_patch(settings.size),
            settings.width,
            condition_width=encoder.width,
            dropout=settings.dropout,
        )
    shape.check_size(settings.size)
    torch.manual_seed(settings.seed)
    fresh = start.model is None or start.resumed
    network = Denoiser(shape) if fresh else grow(load_model(str(start.model)).denoiser, shape)
    reference = EncoderReference(encoder.name, encoder.digest, encoder.width, encoder.logit_scale)
    about = {
        "captionless": captionless.__version__,
        "folder": str(folder),
        "pictures": len(pictures.train.names),
        "held_out": len(pictures.held_out.names),
        "from": start.model,
        "encoder_reason": pictures.reason,
        "settings": asdict(settings),
    }
    return network.requires_grad_(True).train(), ModelConfig(settings.size, shape, reference, training=about)


def _after_step(
    training: trainer.Training,
    *,
    main: bool,
    settings: TrainSettings,
    keeper: Keeper,
    log: Log,
    observer: Observer,
    stop: StopRequest,
) -> None:
    """Tell, log, save and draw whatever is due; stop where that was asked for, with a checkpoint."""
    if main:
        observer.step(training, settings)
        log.step(training, settings)
    if stop.requested:
        if main:
            keeper.save(training)
            observer.say(f"Stopped. The same command with --resume goes on from {training.counter.images:,} pictures.")
        raise KeyboardInterrupt
    if main and keeper.checkpoint_is_due():
        keeper.save(training)
    if main and keeper.sheet_is_due(training):
        observer.say(f"Contact sheet: {keeper.draw(training)}")


def _check_same_pictures(out: Path, pictures: TrainingPictures, folder: Path) -> None:
    """Raise unless the folder still holds the pictures that the training was begun with."""
    recorded = {digest for _, digest, role in read_pictures(out) if role == "train"}
    now = set(pictures.train.digests)
    if recorded != now:
        raise CaptionlessError(
            f"{folder} has changed since {out} was begun ({len(recorded - now):,} pictures gone, "
            f"{len(now - recorded):,} new), so it cannot be resumed exactly. Restore the folder, or begin anew "
            f"from it: --from {out} --out ANOTHER."
        )
