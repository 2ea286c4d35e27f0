"""Define ``train``, which trains a model on a folder of images and writes it to a model folder.

The steps are: plan_stages(request) -> stages, and for each stage
resolve(request) -> plan -> dataset -> state -> loop(state, dataset, callbacks)
"""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from accelerate import Accelerator

from captionless._version import __version__
from captionless.checkpoints.config import BUNDLED, EncoderReference, ModelConfig, TrainingRecord, load_config
from captionless.checkpoints.model import load_model
from captionless.conditioning.bridge import BridgeData
from captionless.config.keyword_types import TrainKeywords
from captionless.config.keywords import keywords
from captionless.config.presets import TRAINING_PRESETS
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig
from captionless.data.labels import FOLDERS
from captionless.device import threads_restored, to_device, usable_cpus
from captionless.generation.sample import Stage
from captionless.models.unet import weight_count
from captionless.progress import Progress, Silent, choose_progress
from captionless.training.checkpointer import Checkpointer, lock_checkpoints
from captionless.training.dataset import Dataset, in_space, load_dataset
from captionless.training.early_stopping import EarlyStopping, choose_sign
from captionless.training.embedding_bank import embedding_bank
from captionless.training.expectation import shortfall, stage_shortfall
from captionless.training.labelled_dataset import load_labelled_dataset
from captionless.training.loop import Callback, LoopProgress, StopTraining, loop
from captionless.training.network import initial_network, initial_schedule, network_config
from captionless.training.processes import Processes, remark_on_launcher
from captionless.training.rehearsal import rehearse_with
from captionless.training.resolve import TrainPlan, resolve
from captionless.training.sample_grid import SampleGrids, choose_grid_rows
from captionless.training.signals import Abandonable, StopOnSignal
from captionless.training.stages import StageRequest, complete, plan_stages
from captionless.training.start import Start
from captionless.training.state import TrainState, begin_state, restore_state
from captionless.training.tracking import Tracking, tracked_accelerator
from captionless.training.validation import Validation, Validator, check_validation_images, warn_of_seen_images


@keywords(TrainRequest, TrainConfig)
def train(
    folder: str | Path, out: str | Path, *, progress: Progress | bool | None = None, **settings: Unpack[TrainKeywords]
) -> Path:
    """Train a model on the images in ``folder`` and write it to a model folder.

    Args:
        folder: a folder of images, searched recursively; nothing else is needed.
        out: the model folder to write.
        progress: True to show a progress bar, False to show nothing, or an object that receives progress reports. By
            default, a bar is shown in terminals and notebooks.
        settings: see below. A run that continues a model inherits its ``captionless.TrainConfig``.

    Returns:
        The model folder.

    Raises:
        CaptionlessError: the input is invalid; the message says how to correct it.
        KeyboardInterrupt: Ctrl-C or a termination signal stopped the run, after a checkpoint was written.
    """
    given: dict[str, Any] = {**settings}
    asked = {name: given.pop(name) for name in TrainRequest.model_fields if name in given}
    request = TrainRequest(folder=folder, out=Path(out), **asked)
    preset: dict[str, Any] = {**TRAINING_PRESETS[request.preset]} if request.preset else {}
    run(request, preset | given, choose_progress(progress))
    return request.out


def run(request: TrainRequest, given: dict[str, Any], progress: Progress) -> None:
    """Plan the stages of a training, and train one after the other."""
    accelerator = tracked_accelerator(request.out, request.track)
    processes = Processes(accelerator)
    progress = progress if accelerator.is_main_process else Silent()
    remark_on_launcher(processes, progress.say)
    with threads_restored(request.threads) as may_choose:
        rehearse = rehearse_with(accelerator.device, processes, choose_threads=may_choose)
        first, *later = plan_stages(request, given, rehearse, progress.say)
        if request.plan:
            return
        for stage in later if later and first.finished() else (first, *later):
            ready = first if stage is first else complete(stage, rehearse)
            if may_choose and ready.record.get("threads"):  # a resumed run keeps those of its plan
                torch.set_num_threads(min(ready.record["threads"], usable_cpus()))
            _train_stage(ready, accelerator, processes, progress)
    for stage in (first, *later):
        if advice := _advice(load_config(stage.request.out), stage.span[1] - stage.span[0]):
            progress.say(advice)


def _advice(trained: ModelConfig, part: float) -> str:
    """Return what to do if a stage, whose training was a part of the whole, has seen too few images."""
    if trained.base_size:
        return stage_shortfall(trained.training, trained.base_size, part)
    return shortfall(trained.training, weight_count(trained.denoiser), part)


def _train_stage(stage: StageRequest, accelerator: Accelerator, processes: Processes, progress: Progress) -> None:
    """Load the dataset, create or restore the state, and run the loop."""
    main, request, progress = accelerator.is_main_process, stage.request, stage.progress(progress)
    with lock_checkpoints(request.out) if main else nullcontext():
        # Everything is checked again: another run may have written to the folder since.
        plan = resolve(request, stage.given, progress.say, stage.record)
        with processes.main_first():
            dataset = _load(plan, progress, accelerator.device)
        dataset = in_space(dataset, plan, accelerator.device, progress, processes)
        if request.evaluate_every:
            check_validation_images(dataset)
        state, config = _begin(plan, dataset, accelerator.device)
        if state.finished:
            progress.say(
                "This run was stopped because the model begins to memorise. Continue it with `early_stopping=False`."
                if state.looks.stopped
                else "This run is already complete. Increase `minutes` or `images` to continue it."
            )
        bank = embedding_bank(dataset, plan.start, request.out, plan.config.seed)
        checkpointer = Checkpointer(
            request.out, config, dataset, request.folder, bank, plan.start.base, request.include_autoencoder
        )
        _learn(plan, state, checkpointer, Tracking(accelerator, request.out), processes, progress)


def _load(plan: TrainPlan, progress: Progress, device: torch.device) -> Dataset:
    return load_labelled_dataset(plan, progress) if plan.by_class else load_dataset(plan, progress, device)


def _begin(plan: TrainPlan, dataset: Dataset, device: torch.device) -> tuple[TrainState, ModelConfig]:
    """Return the new or restored train state, and the config of the model to train."""
    start, settings = plan.start, plan.config
    wanted = network_config(start, settings, dataset.condition_width)
    schedule = initial_schedule(start, settings, wanted)
    torch.manual_seed(settings.seed)
    network = initial_network(start, wanted, by_class=plan.by_class)
    state = begin_state(to_device(network.requires_grad_(True).train(), device), settings, schedule)
    if start.resumed:
        restore_state(plan.request.out, state, start.config.id if start.config else "")
    encoder, reference = dataset.encoder, None
    if encoder is not None:
        # A local path becomes absolute, so that it is valid in any working directory.
        local = encoder.name != BUNDLED and Path(encoder.name).is_dir()
        name = str(Path(encoder.name).resolve()) if local else encoder.name
        bound = (
            start.bound.encoder if start.bound else None
        )  # keeps the recorded digest, to stay equal to the base model's
        digest = bound.digest if bound else encoder.digest
        reference = EncoderReference(name, digest, encoder.width, encoder.logit_scale)
    record, base = _record(plan, dataset), start.base_config
    config = ModelConfig(
        settings.size,
        wanted,
        reference,
        schedule,
        settings.prediction,
        record,
        dataset.classes,
        base.size if base else None,
        base_id=base.id if base else "",
        autoencoder=dataset.space.reference,
    )
    known = start.config.id if start.resumed and start.config else ""
    return state, replace(config, id=known or _new_id(config, start, dataset))


def _new_id(config: ModelConfig, start: Start, dataset: Dataset) -> str:
    """Return the id of a new model: a hash of what its weights follow from, so that equal trainings have equal ids."""
    record = config.training
    source = start.config.id if start.config else ""
    facts = [asdict(config) | {"training": [record.version, record.initialised_from, source, record.settings]}]
    digest = hashlib.sha256(json.dumps([*facts, dataset.image_list()], sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _record(plan: TrainPlan, dataset: Dataset) -> TrainingRecord:
    """Return the training record for ``config.json``, before the first step."""
    start, source, base = plan.start, dataset.label_source, plan.request.enlarge
    before = start.config.training if start.resumed and start.config else TrainingRecord()
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
        plan=plan.record,
    )


def _learn(
    plan: TrainPlan,
    state: TrainState,
    checkpointer: Checkpointer,
    tracking: Tracking,
    processes: Processes,
    progress: Progress,
) -> None:
    """Run the training loop with its callbacks."""
    with StopOnSignal(processes, progress.say) as stop:
        callbacks: list[Callback] = []
        if state.config.early_stopping:  # before the writers, so that a resumed run has the same looks
            sign = choose_sign(checkpointer.dataset, checkpointer.config, state)
            callbacks = [EarlyStopping(sign, processes, progress)]
        if processes.index == 0:
            writers = _writers(plan, checkpointer, tracking, progress)
            slow = [Abandonable(writer, stop) for writer in writers]
            callbacks = [LoopProgress(progress), tracking, *callbacks, checkpointer, *slow]
        callbacks.append(stop)
        try:
            loop(state, checkpointer.dataset.train, callbacks, processes, progress.say)
        except StopTraining:
            progress.say(f"Stopped after {state.images_seen:,} images. Run the same command with --resume to continue.")
            raise
        finally:
            tracking.close()


def _writers(plan: TrainPlan, checkpointer: Checkpointer, tracking: Tracking, progress: Progress) -> list[Callback]:
    """Return the callbacks that measure and show the model; they write to its folder, after the checkpointer."""
    request, start, config, dataset = plan.request, plan.start, checkpointer.config, checkpointer.dataset
    base = load_model(start.base) if start.base else None
    stages = [Stage(to_device(base.denoiser, tracking.accelerator.device), base.config, base.space)] if base else []
    writers: list[Callback] = []
    if request.evaluate_every:
        warn_of_seen_images(start, dataset, progress)
        validator = Validator(config, stages, dataset, plan.config.flip)
        writers.append(Validation(request.evaluate_every, validator, checkpointer, tracking, progress))
    bank = [checkpointer.bank[name].float() for name in ("vectors", "inherited") if name in checkpointer.bank]
    bridge_data = base.bridge_data if base and base.config.encoder else BridgeData(torch.cat(bank)) if bank else None
    rows = choose_grid_rows(dataset, request.sample_prompts, bridge_data)
    return [*writers, SampleGrids(request.out, config, stages, rows, progress)]
