"""Keeps a training's model folder up to date: checkpoints, contact sheets, the log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from captionless.checkpoints import model as checkpoint
from captionless.checkpoints.card import write_model_card
from captionless.checkpoints.config import CONFIG, ModelConfig, base_folder, save_config
from captionless.checkpoints.image_list import write_image_list
from captionless.checkpoints.tensors import save_tensors
from captionless.conditioning.subject import subject_mean
from captionless.config.training import TrainConfig
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.training import loop as trainer
from captionless.training.dataset import TrainingImages
from captionless.training.sample_grid import SampleGridWriter

SHEET_SHARE = 0.05
"""Share of the time that drawing them may take; a short or slow training draws fewer."""
BANK_LIMIT = 10_000
"""Image vectors kept for the bridge: 10 MB at 512 features."""


class Checkpointer:
    """Writes the model folder.

    Args:
        out: the model folder.
        config: what is known of the model before it is trained.
        settings: the training's.
        pictures: what it learns from.
        folder: where those lie.
        painter: draws its contact sheets.
        small: folder of the model whose pictures it enlarges, if it does.
    """

    def __init__(
        self,
        out: Path,
        config: ModelConfig,
        settings: TrainConfig,
        pictures: TrainingImages,
        folder: Path,
        painter: SampleGridWriter,
        small: Path | None = None,
    ) -> None:
        self.out, self.config, self.settings, self.pictures = out, config, settings, pictures
        self.folder, self.painter, self.small = folder, painter, small
        self.saved = time.monotonic()
        self.sheets_done = 0
        self.next_sheet = 0.0

    def begin(self) -> None:
        """Take the model whose pictures are enlarged into the model folder as it is now; it may still be learning."""
        target = base_folder(self.out)
        if self.small is not None and self.small.resolve() != target.resolve():
            checkpoint.copy_model(self.small, target)

    def checkpoint_is_due(self) -> bool:
        """Tell whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self.saved >= 60 * self.settings.checkpoint_minutes

    def sheet_is_due(self, training: trainer.Training) -> bool:
        """Tell whether the training has passed the next of its evenly spaced contact sheets."""
        progress = trainer.progress(training.counter, self.settings)
        passed = math.floor(progress * self.settings.sample_grids)
        due = passed > self.sheets_done and (progress == 1 or time.monotonic() >= self.next_sheet)
        self.sheets_done = passed
        return due

    def save(self, training: trainer.Training) -> None:
        """Write a checkpoint: first what resumes, then what paints."""
        trainer.save_state(self.out, training)
        self.save_model(self.out, training)
        self.saved = time.monotonic()

    def save_model(self, folder: Path, training: trainer.Training) -> None:
        """Write a model folder with the averaged weights as they are now; last the config that makes it a model."""
        save_tensors(folder / checkpoint.WEIGHTS, training.average.state_dict())
        if self.small is not None and not (base_folder(folder) / CONFIG).is_file():
            checkpoint.copy_model(base_folder(self.out), base_folder(folder))
        for name, tensors in self._bridge_data.items():
            save_tensors(folder / name, tensors)
        write_image_list(folder, self.pictures.rows())
        config = replace(self.config, training=replace(self.config.training, **self._so_far(training)))
        save_config(folder, config)
        write_model_card(folder, config, training.average, self.folder)

    def draw(self, training: trainer.Training) -> Path:
        """Write a contact sheet, named after the pictures seen, and return its path."""
        started = time.monotonic()
        target = self.out / "samples" / f"{training.counter.images:09d}.png"
        with atomic_write(target) as path:
            self.painter.draw(training.average).save(path, format="PNG")
        now = time.monotonic()
        self.next_sheet = now + (now - started) / SHEET_SHARE
        return target

    @cached_property
    def _bridge_data(self) -> dict[str, dict[str, torch.Tensor]]:
        """What the bridge from words needs, by file; nothing where there are classes instead."""
        train, encoder = self.pictures.train, self.pictures.encoder
        if encoder is None or self.small is not None:  # the small model has its own
            return {}
        text_mean = subject_mean(train.names, train.vectors, encoder)
        return {checkpoint.BANK: {"vectors": self._bank().to(torch.float16)}, checkpoint.MEANS: {"text": text_mean}}

    def _bank(self) -> torch.Tensor:
        """Return the training pictures' vectors, or a random choice of them where they are very many."""
        vectors = self.pictures.train.vectors
        if len(vectors) <= BANK_LIMIT:
            return vectors
        chosen = torch.randperm(len(vectors), generator=trainer.step_generator(self.settings.seed, -2, 0))
        return vectors[chosen[:BANK_LIMIT]]

    @staticmethod
    def _so_far(training: trainer.Training) -> dict[str, Any]:
        counter = training.counter
        loss = None if math.isnan(counter.loss) else round(counter.loss, 5)
        return {"images_seen": counter.images, "minutes": round(counter.seconds / 60, 2), "loss": loss}


@contextmanager
def only_one(out: Path, main: bool) -> Iterator[None]:
    """Hold a model folder for one training at a time; the system lets go of it even after a crash.

    Raises:
        CaptionlessError: another training is writing there.
    """
    if not main:
        yield
        return
    (out / "training").mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / "training" / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CaptionlessError(f"another training is writing to {out}. Wait for it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()


class Log:
    """A TensorBoard log of loss and learning rate; does nothing where none is wanted."""

    def __init__(self, folder: Path | None) -> None:
        self.writer = _writer(folder) if folder else None

    def step(self, training: trainer.Training, settings: TrainConfig) -> None:
        """Note the loss each time it was looked at."""
        if self.writer and training.counter.images // settings.batch % trainer.CHECK_EVERY == 0:
            images = training.counter.images
            self.writer.add_scalar("loss", training.counter.loss, images)
            self.writer.add_scalar("learning rate", trainer.learning_rate(training.counter, settings), images)

    def close(self) -> None:
        """Write what is left to disk."""
        if self.writer:
            self.writer.close()


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise CaptionlessError("--tensorboard needs TensorBoard: pip install 'captionless[tensorboard]'.") from None
    return SummaryWriter(str(folder))  # type: ignore[no-untyped-call]
