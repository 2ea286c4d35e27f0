"""The verb ``train``: a folder of pictures becomes a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Unpack

import torch
from accelerate import Accelerator

from captionless._version import __version__
from captionless.checkpoints.config import BUNDLED, EncoderReference, ModelConfig, TrainingRecord
from captionless.checkpoints.model import load_model
from captionless.config.options import TrainOptions
from captionless.config.training import TrainConfig
from captionless.data.labels import FOLDERS
from captionless.device import to_device
from captionless.errors import CaptionlessError
from captionless.generation.sample import Stage
from captionless.training import loop as trainer
from captionless.training.checkpointer import Checkpointer, Log, only_one
from captionless.training.dataset import TrainingImages, gather
from captionless.training.enlargement import check_kind
from captionless.training.labelled_dataset import gather_classes, label_source, refuse_words
from captionless.training.sample_grid import SampleGridWriter
from captionless.training.selection import Selection, tell_known
from captionless.training.signals import anyone, stop_requests
from captionless.training.start import (
    Start,
    check_prompts,
    find_start,
    first_network,
    in_recorded_order,
    schedule_from,
    settle,
    shape,
)
from captionless.training.validation import Validator, check_held_out


class Observer(Protocol):
    """Who watches a training; the command line draws bars, ``Silent`` does nothing."""

    def say(self, message: str) -> None:
        """Take a sentence for the person in front of the screen."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Take the progress of reading and embedding pictures."""

    def step(self, training: trainer.Training, settings: TrainConfig) -> None:
        """Take the state after a step."""


class Silent:
    """An observer that keeps quiet."""

    def say(self, message: str) -> None:
        """Ignore it."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Ignore it."""

    def step(self, training: trainer.Training, settings: TrainConfig) -> None:
        """Ignore it."""


def train(
    folder: str | Path,
    out: str | Path,
    *,
    encoder: str | None = None,
    vectors: str | Path | None = None,
    classes: bool = False,
    labels: str | Path | None = None,
    start_from: str | Path | None = None,
    enlarge: str | Path | None = None,
    resume: bool = False,
    sample_prompts: Sequence[str] = (),
    evaluate_every: int | None = None,
    tensorboard: bool = False,
    observer: Observer | None = None,
    **given: Unpack[TrainOptions],
) -> Path:
    """Teach a denoiser to paint what the pictures in ``folder`` show; write a model folder.

    Args:
        folder: pictures, in any sub-folders; nothing else is needed.
        out: the model folder to write.
        encoder: a hub id, a local folder, ``bundled`` or ``auto`` (the default: the bundled encoder where it
            knows what the pictures show, else CLIP). With ``start_from`` or ``resume`` it is that model's.
        vectors: a CSV of image vectors computed before (path, then numbers); needs ``encoder``.
        classes: train on classes instead of words: a picture's class is the sub-folder of ``folder`` it lies in.
        labels: a CSV with the columns ``file`` and ``label`` that gives the classes instead of sub-folders.
        start_from: a model (``bundled`` or a folder) whose weights to begin with; size and width may grow.
        enlarge: a model whose pictures this one is to enlarge, to twice their size or another multiple; it becomes part
            of the model folder (``captionless.diffusion.super_resolution``).
        resume: go on with the training in ``out``; ``images`` and ``minutes`` are totals over all resumes.
        sample_prompts: what to paint on the contact sheets drawn while it learns.
        evaluate_every: look at the model after every so many pictures seen: its likeness to held-out pictures
            (``hold_out`` must set some aside) and whether it memorises. The best is kept in ``out/best``, and
            ``out/evaluations.jsonl`` records all.
        tensorboard: also write a TensorBoard log to ``out/log``.
        observer: whom to tell about progress.
        given: settings that differ from the defaults of ``captionless.config.training.TrainConfig``.

    Returns:
        The model folder.

    Raises:
        CaptionlessError: bad input; it says what to do.
        KeyboardInterrupt: Ctrl-C or a termination was asked for; a checkpoint has been written first.
    """
    folder, out, observer = Path(folder), Path(out), observer or Silent()
    check_prompts(sample_prompts)
    if evaluate_every is not None and evaluate_every < 1:
        raise CaptionlessError(f"--evaluate-every must be at least 1 picture, not {evaluate_every}. Try 20000.")
    accelerator = Accelerator(mixed_precision="no")  # the loop casts by itself, by the training's own settings
    main = accelerator.is_main_process
    observer = observer if main else Silent()
    start = find_start(folder, out, start_from, resume, observer.say, enlarge)
    source = label_source(start.config, start.resumed, classes, labels)
    if start.small and start.bound:
        check_kind(start.bound, bool(source))
    if source:
        refuse_words(encoder, vectors, sample_prompts)
    settings = settle(start, given, by_class=bool(source))
    if evaluate_every and not settings.hold_out:
        raise CaptionlessError("--evaluate-every needs held-out pictures, and none are. Add --hold-out 0.1.")
    _tell_afresh(start, bool(source), observer)
    with accelerator.main_process_first():
        if source:
            pictures = gather_classes(folder, out, settings, source, start.bound, observer, start.base_size)
        else:
            pictures = gather(
                folder, out, settings, start.bound, encoder, vectors, observer, accelerator.device, start.base_size
            )
    with only_one(out, main):
        if start.resumed:
            pictures = in_recorded_order(out, pictures, folder)
        training, config = _begin(settings, pictures, start, folder, out, accelerator, enlarge)
        if trainer.progress(training.counter, settings) == 1:
            observer.say("This training has its full length already; a larger --minutes or --images goes on with it.")
        first = load_model(start.small) if start.small else None
        stage = Stage(to_device(first.denoiser, accelerator.device), first.config) if first else None
        painter = SampleGridWriter(config, pictures, sample_prompts, stage, first.bank if first else None)
        keeper = Checkpointer(out, config, settings, pictures, folder, painter, start.small)
        log = Log(out / "log" if tensorboard and main else None)
        selection = None
        if evaluate_every is not None:
            check_held_out(pictures)  # on every process, so that none waits for one that has stopped
        if evaluate_every is not None and main:
            _tell_known(start, pictures, observer)
            watch = Validator(config, pictures, settings.flip, stage)
            seen = training.counter.images
            selection = Selection(out, evaluate_every, watch, keeper.save_model, observer.say, seen)
        _learn(training, pictures, config, settings, accelerator, keeper, log, observer, selection)
    return out


def _tell_afresh(start: Start, by_class: bool, observer: Observer) -> None:
    """Say so where the conditions of the model begun from are not those of this training."""
    if start.config and bool(start.config.classes) != by_class:
        observer.say(
            f"{start.model} was trained on {'words' if by_class else 'classes'}: its input for them starts afresh."
        )
    elif not start.understood:
        observer.say(
            f"{start.model} was trained with {'other classes' if by_class else 'another encoder'} than the model whose "
            "pictures are enlarged: its input for them starts afresh."
        )


def _tell_known(start: Start, pictures: TrainingImages, observer: Observer) -> None:
    """Say how many held-out pictures the models that take part have been trained on."""
    tell_known(start.model, pictures, observer.say)
    tell_known(start.small, pictures, observer.say, "whose pictures are enlarged")


def _begin(
    settings: TrainConfig,
    pictures: TrainingImages,
    start: Start,
    folder: Path,
    out: Path,
    accelerator: Accelerator,
    enlarge: str | Path | None,
) -> tuple[trainer.Training, ModelConfig]:
    """Return the training, fresh or as it was when it stopped, and the config of the model it will be."""
    wanted = shape(start, settings, pictures.condition_width)
    torch.manual_seed(settings.seed)
    network = first_network(start, wanted, by_class=bool(pictures.classes))
    training = trainer.begin(to_device(network.requires_grad_(True).train(), accelerator.device), settings)
    if start.resumed:
        trainer.restore_state(out, training)
    about = TrainingRecord(
        version=__version__,
        folder=str(folder),
        train_images=len(pictures.train.names),
        held_out=len(pictures.held_out.names),
        initialised_from=start.model,
        settings=settings.model_dump(mode="json"),
        **_about_enlarging(start, enlarge),
        **_about_conditions(pictures, start),
    )
    encoder, reference = pictures.encoder, None
    if encoder is not None:
        reference = EncoderReference(_lasting(encoder.name), encoder.digest, encoder.width, encoder.logit_scale)
    schedule = schedule_from(start, settings, wanted)
    return training, ModelConfig(
        settings.size, wanted, reference, schedule, settings.prediction, about, pictures.classes, start.base_size
    )


def _about_enlarging(start: Start, enlarge: str | Path | None) -> dict[str, Any]:
    if start.small is None:
        return {}
    begun = start.config.training.base_model if start.resumed and start.config else str(enlarge)
    return {"base_model": begun}


def _about_conditions(pictures: TrainingImages, start: Start) -> dict[str, Any]:
    """Return what is told of the encoder, or of the classes."""
    if pictures.classes:
        table = pictures.source != FOLDERS
        source = str(Path(pictures.source).resolve()) if table else FOLDERS
        return {"labels": source, "class_images": pictures.class_counts()}
    reason = pictures.reason
    if start.resumed and start.config:
        reason = start.config.training.encoder_reason or reason
    return {"encoder_reason": reason}


def _learn(
    training: trainer.Training,
    pictures: TrainingImages,
    config: ModelConfig,
    settings: TrainConfig,
    accelerator: Accelerator,
    keeper: Checkpointer,
    log: Log,
    observer: Observer,
    selection: Selection | None,
) -> None:
    """Run the loop; after each step tell, log, save and draw whatever is due."""
    main = accelerator.is_main_process

    def after_step(training: trainer.Training) -> None:
        if main:
            observer.step(training, settings)
            log.step(training, settings)
        if anyone(accelerator, stop.requested):
            if main:
                keeper.save(training)
                seen = f"{training.counter.images:,}"
                observer.say(f"Stopped. The same command with --resume goes on from {seen} pictures.")
            raise KeyboardInterrupt
        if main and keeper.checkpoint_is_due():
            keeper.save(training)
        if selection:
            selection.after_step(training, trainer.progress(training.counter, settings) == 1)
        if main and keeper.sheet_is_due(training):
            observer.say(f"Contact sheet: {keeper.draw(training)}")

    data = trainer.TrainingData(pictures.train.pixels, pictures.train.vectors, pictures.train.small)
    if main:
        keeper.begin()
    with stop_requests(observer.say) as stop:
        try:
            trainer.run(training, data, config.schedule, settings, accelerator, after_step)
        except (MemoryError, RuntimeError) as error:
            raise _out_of_memory(error, settings) or error from None
        finally:
            log.close()
        if main:
            keeper.save(training)


def _out_of_memory(error: Exception, settings: TrainConfig) -> CaptionlessError | None:
    """Return advice where memory ran out (on the CPU, torch says so in a RuntimeError's text), else None."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if not lacking:
        return None
    return CaptionlessError(
        f"there is not enough memory for batches of {settings.batch} pictures of {settings.size} pixels. "
        "Choose a smaller --batch, --width or --size."
    )


def _lasting(name: str) -> str:
    """Return an encoder's name so that it also holds from another working directory: folders become absolute."""
    return str(Path(name).resolve()) if name != BUNDLED and Path(name).is_dir() else name
