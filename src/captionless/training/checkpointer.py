"""Keep the model folder of a training run up to date."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from captionless.checkpoints.card import write_model_card
from captionless.checkpoints.config import BASE, CONFIG, ModelConfig, base_folder, save_config
from captionless.checkpoints.image_list import write_image_list
from captionless.checkpoints.model import BANK, WEIGHTS, copy_model
from captionless.checkpoints.tensors import save_tensors
from captionless.errors import CaptionlessError
from captionless.training.dataset import Dataset
from captionless.training.loop import Callback
from captionless.training.state import TrainState, save_state


class Checkpointer(Callback):
    """Write checkpoints into ``out``: at regular times, and at the end.

    ``config`` is the model's as known before it is trained, ``folder`` that of the training images, and ``base`` that
    of the base model, for a super-resolution stage. ``bank`` holds the tensors of ``bank.safetensors``, if any.
    """

    def __init__(
        self,
        out: Path,
        config: ModelConfig,
        dataset: Dataset,
        folder: Path,
        bank: Mapping[str, Tensor],
        base: Path | None = None,
    ):
        self.out, self.config, self.dataset, self.folder = out, config, dataset, folder
        self.bank, self.base = dict(bank), base
        self.saved = time.monotonic()

    def on_start(self, state: TrainState) -> None:
        """Copy the base model into the model folder as it is now; its own training may still be running."""
        if self.base is not None and self.base.resolve() != base_folder(self.out).resolve():
            copy_model(self.base, self.out / BASE)
        self.saved = time.monotonic()

    def on_step(self, state: TrainState) -> None:
        """Write a checkpoint if the last one is old enough."""
        if time.monotonic() - self.saved >= 60 * state.config.checkpoint_minutes:
            self.on_end(state)

    def on_end(self, state: TrainState) -> None:
        """Write a checkpoint: first what resuming needs, then the model."""
        save_state(self.out, state)
        self.save_model(self.out, state)
        self.saved = time.monotonic()

    def save_model(self, folder: Path, state: TrainState) -> None:
        """Write a model folder with the current averaged weights.

        The config, which marks it as a complete model, follows all the files it describes; the model card comes last.
        """
        save_tensors(folder / WEIGHTS, state.average.state_dict())
        if self.base is not None and not (base_folder(folder) / CONFIG).is_file():
            copy_model(base_folder(self.out), folder / BASE)
        if self.bank:
            save_tensors(folder / BANK, self.bank)
        write_image_list(folder, self.dataset.image_list())
        loss = None if math.isnan(state.loss) else round(state.loss, 5)
        minutes = round(state.seconds / 60, 2)
        record = replace(self.config.training, images_seen=state.images_seen, minutes=minutes, loss=loss)
        config = replace(self.config, training=record)
        save_config(folder, config)
        write_model_card(folder, config, state.average, self.folder)


@contextmanager
def lock_checkpoints(out: Path) -> Iterator[None]:
    """Reserve a model folder for one training run at a time; the system releases it even after a crash.

    Raises:
        CaptionlessError: another training run is writing there.
    """
    (out / "training").mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(out / "training" / ".lock").acquire(timeout=0)
    except Timeout:
        raise CaptionlessError(
            f"another training run is writing to {out}. Wait until it has ended, or choose another `out`.",
            parameter="out",
            value=out,
            code="folder_in_use",
        ) from None
    with lock:
        yield
