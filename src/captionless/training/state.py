"""The state of a training run, and functions that create, save and restore it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AllowInfNan, ConfigDict, NonNegativeFloat, NonNegativeInt, TypeAdapter
from pydantic import dataclasses as validated
from torch import Tensor

from captionless.checkpoints.model import STATE
from captionless.config.length import share_done
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import AnySchedule
from captionless.errors import CaptionlessError
from captionless.models import ema
from captionless.models.unet import Denoiser
from captionless.tensor_files import read_about, read_tensors, save_tensors
from captionless.training.muon import Muon
from captionless.training.start import cannot_resume

FORMAT = 2
"""Number of the state's format; another number means that a resumed run would draw other random numbers."""

LOSS_DECAY = 0.99
"""Decay of the smoothed loss in a step."""


@validated.dataclass(config=ConfigDict(strict=True))
class Looks:
    """What early stopping has seen so far; the values are those of ``captionless.training.early_stopping.Sign``."""

    images: NonNegativeInt = 0  # seen at the last look
    value: float = math.inf  # the best one
    best: NonNegativeInt = 0  # images seen when it was found
    worse: NonNegativeInt = 0  # looks since then
    stopped: bool = False


@validated.dataclass(config=ConfigDict(strict=True))
class Counter:
    """The numbers in the header of a stored state."""

    images: NonNegativeInt
    seconds: Annotated[NonNegativeFloat, AllowInfNan(False)]
    loss_average: Annotated[NonNegativeFloat, AllowInfNan(False)] = 0.0
    looks: Looks = field(default_factory=Looks)
    format: int = 0  # see ``FORMAT``


@dataclass
class TrainState:
    """Everything that changes during training, with the settings that determine how it changes."""

    network: Denoiser  # the weights that the optimizer updates
    average: Denoiser  # their exponential moving average, used for sampling
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    schedule: AnySchedule
    images_seen: int = 0  # by all processes, counting repetitions
    seconds: float = 0.0  # time spent in training steps
    loss: float = math.nan  # smoothed, as last read; NaN before
    looks: Looks = field(default_factory=Looks)
    kept: Denoiser | None = None  # the best average, with early stopping
    loss_average: Tensor = field(init=False)  # of the losses of all steps, from 0, on the device

    def __post_init__(self) -> None:
        """Put the loss where the weights are."""
        self.loss_average = torch.zeros((), device=next(self.network.parameters()).device)

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return self.images_seen // self.config.batch

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]: by images or by minutes, whichever is further; 1 once stopped."""
        if self.looks.stopped:
            return 1.0
        return share_done(self.config.images, self.config.minutes, self.images_seen, self.seconds)

    @property
    def finished(self) -> bool:
        """Whether the run has reached its limit (images or minutes), or was stopped early."""
        return self.progress == 1

    @property
    def chosen(self) -> Denoiser:
        """The weights of the model: the best average or, without early stopping, the current one."""
        return self.kept or self.average

    def keep_average(self, value: float) -> None:
        """Keep a copy of the average, which is the best so far."""
        kept = ema.average_copy(self.average)
        assert isinstance(kept, Denoiser)
        self.kept = kept
        self.looks.value, self.looks.best, self.looks.worse = value, self.images_seen, 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step: linear warm-up, then constant, then linear cool-down to zero.

        With this schedule a finished run can be extended by returning to the constant rate (arXiv:2405.18392).
        """
        rise = min(1.0, (self.images_seen + self.config.batch) / self.config.warm_up)
        fall = min(1.0, (1 - self.progress) / self.config.cool_down)
        return self.config.learning_rate * rise * fall

    def read_loss(self) -> None:
        """Update ``loss`` from the device, for which this waits.

        Raises:
            CaptionlessError: the loss became non-finite.
        """
        # The average starts at 0, which the division corrects (as in Adam, arXiv:1412.6980, section 3).
        self.loss = float(self.loss_average) / (1 - LOSS_DECAY**self.steps) if self.steps else math.nan
        if self.steps and not math.isfinite(self.loss):
            raise diverged(self)


def begin_state(network: Denoiser, config: TrainConfig, schedule: AnySchedule) -> TrainState:
    """Return the state before the first step."""
    device = next(network.parameters()).device
    kind = Muon if config.optimizer == "muon" else torch.optim.AdamW
    optimizer = kind(
        network.parameters(),
        lr=torch.tensor(config.learning_rate, device=device),
        betas=(0.9, 0.99),
        weight_decay=0.01,
        capturable=device.type == "cuda",
        fused=True,
    )
    average = ema.average_copy(network)
    assert isinstance(average, Denoiser)
    return TrainState(network, average, optimizer, config, schedule)


def save_state(folder: Path, state: TrainState, model: str = "") -> None:
    """Atomically write everything needed for an exact resume to one safetensors file, with the id of the ``model``.

    Raises:
        CaptionlessError: the weights are not finite (a good checkpoint is never replaced by a bad one), or the file
            cannot be written.
    """
    state.read_loss()
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    if state.kept is not None:
        tensors |= {f"kept.{k}": v for k, v in state.kept.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise diverged(state)
    counter = Counter(state.images_seen, state.seconds, float(state.loss_average), state.looks, FORMAT)
    save_tensors(folder / STATE, tensors, {"model": model, "counter": json.dumps(asdict(counter))})


def restore_state(folder: Path, state: TrainState, model: str = "") -> None:
    """Load what ``save_state`` wrote into a newly created ``state`` of the same architecture.

    Raises:
        CaptionlessError: the file is missing, damaged, that of another model or version, or does not fit.
    """
    tensors = read_tensors(folder / STATE, model)
    try:
        counter = TypeAdapter(Counter).validate_json(read_about(folder / STATE)["counter"])
        if counter.format != FORMAT:
            raise cannot_resume(folder, "another version of captionless began it, whose random numbers were different")
        state.network.load_state_dict(_below("network.", tensors))
        state.average.load_state_dict(_below("average.", tensors))
        optimizer = state.optimizer.state_dict()
        for name, value in _below("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            optimizer["state"].setdefault(int(index), {})[key] = value
        state.optimizer.load_state_dict(optimizer)
        _match_layout(state.optimizer)
        state.images_seen, state.seconds = counter.images, counter.seconds
        state.loss_average.fill_(counter.loss_average)
        state.read_loss()
        if state.config.early_stopping and (kept := _below("kept.", tensors)):
            state.keep_average(0.0)
            state.chosen.load_state_dict(kept)
            state.looks = counter.looks
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise cannot_resume(folder, f"{STATE} does not match this model") from error


def diverged(state: TrainState) -> CaptionlessError:
    """Return the error for a loss or weights that are not finite."""
    return CaptionlessError(
        f"the loss became non-finite after {state.images_seen:,} images. The last checkpoint is kept. Start a "
        "new run with a lower `learning_rate`; if this run used bf16, `resume=True` with `precision=float32` "
        "may continue from the last checkpoint.",
        parameter="learning_rate",
        value=state.config.learning_rate,
        code="diverged",
    )


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Convert restored moments to the memory format of their weights; mixed formats are slow and round differently."""
    for weights, moments in optimizer.state.items():
        for key, value in moments.items():
            if value.ndim and value.shape != weights.shape:
                raise ValueError(f"{key} has the wrong shape")
            if value.ndim:
                moments[key] = torch.empty_like(weights, requires_grad=False).copy_(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
