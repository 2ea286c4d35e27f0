"""Train a model on a folder of images and write it to a model folder: the public function ``train``.

The steps: resolve(request) -> plan -> dataset -> state -> loop(state, dataset, callbacks)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
from accelerate import Accelerator

from captionless._version import __version__
from captionless.checkpoints.config import BUNDLED, EncoderReference, ModelConfig, TrainingRecord
from captionless.checkpoints.model import Model, load_model
from captionless.config.keyword_types import TrainOptions
from captionless.config.keywords import keywords
from captionless.config.training import TrainConfig
from captionless.data.labels import FOLDERS
from captionless.device import to_device
from captionless.errors import CaptionlessError
from captionless.generation.sample import Stage
from captionless.progress import Progress, Silent, choose_progress
from captionless.training.checkpointer import Checkpointer, exclusive
from captionless.training.dataset import Dataset, in_recorded_order, load_dataset
from captionless.training.labelled_dataset import load_labelled_dataset
from captionless.training.loop import Callback, ProgressReport, StopTraining, loop
from captionless.training.network import denoiser_config, initial_network, initial_schedule
from captionless.training.resolve import Plan, TrainRequest, resolve
from captionless.training.sample_grid import SampleGrids, choose_rows
from captionless.training.signals import StopOnSignal, stop_requests
from captionless.training.state import TrainState, begin, restore_state
from captionless.training.tracking import Tracking, tracked_accelerator
from captionless.training.validation import Validation, Validator, check_held_out, warn_of_seen


@keywords(TrainConfig)
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
    track: str | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[TrainOptions],
) -> Path:
    """Train a model to generate what the images in ``folder`` show; write a model folder.

    Args:
        folder: images, in any sub-folders; nothing else is needed.
        out: the model folder to write.
        encoder: a hub id, a local folder, ``bundled`` or ``auto`` (the default: the bundled encoder if the images are
            in its domain, else CLIP). With ``start_from`` or ``resume`` it is that model's.
        vectors: a CSV of image vectors computed before (path, then numbers); needs ``encoder``.
        classes: train a class-conditional model: an image's class is the sub-folder of ``folder`` it is in.
        labels: a CSV with the columns ``file`` and ``label`` that gives the classes instead of sub-folders.
        start_from: a model (``bundled`` or a folder) whose weights to start with; size and width may be larger.
        enlarge: a base model: train a super-resolution stage that upsamples its images to twice their size or another
            multiple. The base model becomes part of the model folder (``captionless.diffusion.super_resolution``).
        resume: continue the run in ``out``; ``images`` and ``minutes`` are totals over all resumes.
        sample_prompts: prompts of the sample grids drawn during the run.
        evaluate_every: validate after every so many images seen: the distance to held-out images (``hold_out`` must
            set some aside) and whether the model memorises. The best model is kept in ``out/best``, and
            ``out/evaluations.jsonl`` records all.
        track: also log to ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``; their package must be installed.
        progress: True draws a progress bar, False does not; by default terminals and notebooks do. Or an object that
            receives remarks and progress.
        settings: fields of ``captionless.config.training.TrainConfig`` that differ from their defaults.

    Returns:
        The model folder.

    Raises:
        CaptionlessError: bad input; the message says what to do.
        KeyboardInterrupt: Ctrl-C was pressed or a termination signal came; a checkpoint has been written first.
    """
    request = TrainRequest(
        Path(folder),
        Path(out),
        encoder=encoder,
        vectors=vectors,
        classes=classes,
        labels=labels,
        start_from=start_from,
        enlarge=enlarge,
        resume=resume,
        sample_prompts=sample_prompts,
        evaluate_every=evaluate_every,
        track=track,
        settings=settings,
    )
    run(request, choose_progress(progress))
    return request.out


def run(request: TrainRequest, progress: Progress) -> None:
    """Carry out a request: resolve it, load the dataset, begin or restore the state, run the loop."""
    accelerator = tracked_accelerator(request.out, request.track)
    main = accelerator.is_main_process
    progress = progress if main else Silent()
    plan = resolve(request, progress.say)
    with accelerator.main_process_first():
        dataset = _load(plan, progress, accelerator)
    with exclusive(request.out, main):
        if plan.start.resumed:
            dataset = in_recorded_order(plan, dataset)
        if request.evaluate_every:
            check_held_out(dataset)  # on every process, so that none waits for one that has stopped
        state, config = _begin(plan, dataset, accelerator.device)
        if state.finished:
            progress.say("This training has reached its length; a larger `minutes` or `images` continues it.")
        checkpointer = Checkpointer(request.out, config, dataset, request.folder, plan.start.base)
        _learn(plan, state, checkpointer, accelerator, progress)


def _load(plan: Plan, progress: Progress, accelerator: Accelerator) -> Dataset:
    if plan.by_class:
        return load_labelled_dataset(plan, progress)
    return load_dataset(plan, progress, accelerator.device)


def _begin(plan: Plan, dataset: Dataset, device: torch.device) -> tuple[TrainState, ModelConfig]:
    """Return the state, fresh or as it was when the run stopped, and the config of the model that results."""
    start, settings = plan.start, plan.config
    wanted = denoiser_config(start, settings, dataset.condition_width)
    schedule = initial_schedule(start, settings, wanted)
    torch.manual_seed(settings.seed)
    network = initial_network(start, wanted, by_class=plan.by_class)
    state = begin(to_device(network.requires_grad_(True).train(), device), settings, schedule)
    if start.resumed:
        restore_state(plan.request.out, state)
    encoder, reference = dataset.encoder, None
    if encoder is not None:
        reference = EncoderReference(_lasting(encoder.name), encoder.digest, encoder.width, encoder.logit_scale)
    return state, ModelConfig(
        settings.size,
        wanted,
        reference,
        schedule,
        settings.prediction,
        _record(plan, dataset),
        dataset.classes,
        start.base_size,
    )


def _record(plan: Plan, dataset: Dataset) -> TrainingRecord:
    """Return what ``config.json`` records of the run before its first step."""
    start, source = plan.start, dataset.label_source
    before = start.config.training if start.resumed and start.config else TrainingRecord()
    base = plan.request.enlarge
    return TrainingRecord(
        version=__version__,
        folder=str(plan.request.folder),
        train_images=len(dataset.train.names),
        held_out=len(dataset.held_out.names),
        initialised_from=start.initialised_from,
        base_model=before.base_model or (str(base) if base is not None else None),
        encoder_reason=before.encoder_reason or dataset.encoder_reason,
        labels=source if source in ("", FOLDERS) else str(Path(source).resolve()),
        class_images=dataset.class_counts(),
        settings=plan.config.model_dump(mode="json"),
    )


def _learn(
    plan: Plan, state: TrainState, checkpointer: Checkpointer, accelerator: Accelerator, progress: Progress
) -> None:
    """Run the loop with its callbacks."""
    tracking = Tracking(accelerator, plan.request.out)
    with stop_requests(progress.say) as stop:
        callbacks: list[Callback] = [StopOnSignal(accelerator, stop)]
        if accelerator.is_main_process:
            reports = [ProgressReport(progress), tracking]
            callbacks = [*reports, *callbacks, *_writers(plan, checkpointer, tracking, progress)]
        try:
            loop(state, checkpointer.dataset.train, callbacks, accelerator)
        except StopTraining:
            progress.say(f"Stopped. The same command with --resume continues from {state.images_seen:,} images.")
            raise
        except (MemoryError, RuntimeError) as error:
            raise _out_of_memory(error, state.config) or error from None
        finally:
            tracking.close()


def _writers(plan: Plan, checkpointer: Checkpointer, tracking: Tracking, progress: Progress) -> list[Callback]:
    """Return the callbacks that write to the model folder."""
    request, start, config, dataset = plan.request, plan.start, checkpointer.config, checkpointer.dataset
    base = load_model(start.base) if start.base else None
    stages = _stages(base, tracking.accelerator.device)
    writers: list[Callback] = [checkpointer]
    if request.evaluate_every:
        warn_of_seen(start.initialised_from, "from which this training run starts", dataset, progress)
        warn_of_seen(start.base, "the base model", dataset, progress)
        validator = Validator(config, stages, dataset, plan.config.flip)
        writers.append(Validation(request.evaluate_every, validator, checkpointer, tracking, progress))
    rows = choose_rows(config, dataset, request.sample_prompts, base)
    return [*writers, SampleGrids(request.out, config, stages, rows, progress)]


def _stages(base: Model | None, device: torch.device) -> list[Stage]:
    return [Stage(to_device(base.denoiser, device), base.config)] if base else []


def _out_of_memory(error: Exception, config: TrainConfig) -> CaptionlessError | None:
    """Return advice if memory ran out (on the CPU, torch says so in a RuntimeError's text), else None."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if not lacking:
        return None
    return CaptionlessError(
        f"there is not enough memory for batches of {config.batch} images of {config.size} pixels. Choose a smaller "
        "`batch`, `width` or `size`."
    )


def _lasting(name: str) -> str:
    """Return an encoder's name so that it is valid in any working directory: folders become absolute."""
    return str(Path(name).resolve()) if name != BUNDLED and Path(name).is_dir() else name
