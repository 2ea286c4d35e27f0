"""Write the checkpoints of a training run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from captionless.checkpoints.card import write_model_card
from captionless.checkpoints.config import BASE, CONFIG, ModelConfig, base_folder, save_config
from captionless.checkpoints.image_list import write_image_list
from captionless.checkpoints.model import BANK, WEIGHTS, copy_model
from captionless.errors import CaptionlessError
from captionless.files import create_folder, flush, remark_once, sweep
from captionless.models.unet import Denoiser
from captionless.tensor_files import save_tensors
from captionless.training.dataset import Dataset
from captionless.training.loop import Callback
from captionless.training.start import LOCK, check_foreign, is_begun
from captionless.training.state import TrainState, save_state


class Checkpointer(Callback):
    """Write checkpoints at regular intervals and at the end of training.

    Args:
        out: the model folder to write.
        config: the config of the model before training.
        dataset: the training data.
        folder: the folder of the training images.
        bank: the tensors of ``bank.safetensors``; empty if the model has no embedding bank.
        base: the folder of the base model, for a super-resolution stage.
        include_autoencoder: whether to copy the autoencoder into the model folder.
    """

    def __init__(
        self,
        out: Path,
        config: ModelConfig,
        dataset: Dataset,
        folder: str | Path,
        bank: Mapping[str, Tensor],
        base: Path | None = None,
        include_autoencoder: bool = False,
    ):
        self.out, self.config, self.dataset, self.folder = out, config, dataset, folder
        self.bank, self.base, self.include_autoencoder = dict(bank), base, include_autoencoder
        self.saved, self.saved_images = time.monotonic(), -1

    def on_start(self, state: TrainState) -> None:
        """Copy the base model into the model folder, as its own training may still be running."""
        if self.base is not None and self.base.resolve() != base_folder(self.out).resolve():
            copy_model(self.base, self.out / BASE)
        self.saved = time.monotonic()

    def on_step(self, state: TrainState) -> None:
        """Write a checkpoint if ``checkpoint_minutes`` have passed since the last one, or after the last step."""
        if state.finished or time.monotonic() - self.saved >= 60 * state.config.checkpoint_minutes:
            self.on_end(state)

    def on_end(self, state: TrainState) -> None:
        """Write a checkpoint, unless this step has one: first the train state, then the model."""
        if state.images_seen == self.saved_images:
            return
        save_state(self.out, state, self.config.id)
        self.save_model(self.out, state, state.kept, state.looks.best)
        self.saved, self.saved_images = time.monotonic(), state.images_seen

    def save_model(self, folder: Path, state: TrainState, kept: Denoiser | None = None, images: int = 0) -> None:
        """Write a model folder with the current averaged weights, or with those ``kept`` after so many ``images``.

        The config is written after the files it describes, because its presence marks the model as complete. The model
        card comes last.
        """
        weights, about = kept or state.average, {"model": self.config.id}
        save_tensors(folder / WEIGHTS, weights.state_dict(), about)
        if self.base is not None and not (base_folder(folder) / CONFIG).is_file():
            copy_model(base_folder(self.out), folder / BASE)
        if self.include_autoencoder:
            self.dataset.space.copy(folder)
        if self.bank:
            save_tensors(folder / BANK, self.bank, about)
        write_image_list(folder, self.dataset.image_list())
        loss = None if math.isnan(state.loss) else round(state.loss, 5)
        minutes = round(state.seconds / 60, 2)
        training = replace(self.config.training, images_seen=state.images_seen, minutes=minutes, loss=loss)
        config = replace(self.config, training=replace(training, kept_images=images if kept else None))
        save_config(folder, config)
        write_model_card(folder, config, weights, self.folder)


@contextmanager
def lock_checkpoints(out: Path) -> Iterator[None]:
    """Lock a model folder for one training run; the operating system releases the lock even after a crash.

    What an earlier run left half written when it was killed is removed.

    Raises:
        CaptionlessError: another training run is writing to the folder, it cannot be created, or files that are not
            those of a training have come into it.
    """
    lock, begun = FileLock(out / LOCK), is_begun(out)
    try:
        create_folder((out / LOCK).parent)
        lock.acquire(timeout=0)
        flush((out / LOCK).parent)  # by this file a later run knows that all others are its own
    except Timeout:
        raise CaptionlessError(
            f"another training run is writing to {out}. Wait until it ends, or choose another `out`.",
            parameter="out",
            value=out,
            code="folder_in_use",
        ) from None
    except (OSError, NotImplementedError) as error:
        if not out.is_dir():
            raise CaptionlessError(
                f"`out={out}` cannot be created: {error}. Choose another folder.", parameter="out", value=out
            ) from error
        remark_once("lock", f"{out} cannot be locked ({error}). Start no second training there while this one runs.")
    try:
        if not begun:
            _check_again(out)
        sweep(out.rglob(".*.tmp"), locked=True)
        yield
    finally:
        with suppress(OSError):  # it ends with the process
            lock.release()


def _check_again(out: Path) -> None:
    """Raise as `check_foreign` does, but first remove the lock's file, which would pass them off as a run's own."""
    try:
        check_foreign(out)
    except CaptionlessError:
        with suppress(OSError):
            (out / LOCK).unlink()
        raise
