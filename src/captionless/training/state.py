"""The state of a training run, and functions that create, save and restore it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.model import STATE
from captionless.checkpoints.tensors import read_metadata, read_tensors, save_tensors
from captionless.config.training import DEFAULT_MINUTES, TrainConfig
from captionless.diffusion.schedules import AnySchedule
from captionless.errors import CaptionlessError
from captionless.models import ema
from captionless.models.unet import Denoiser
from captionless.training.muon import Muon
from captionless.training.start import cannot_resume

FORMAT = 2
"""Number of the state's format; another number means that a resumed run would draw other random numbers."""

LOSS_DECAY = 0.99
"""Decay of the smoothed loss in a step."""


@dataclass
class Looks:
    """What early stopping has seen so far; the values are those of ``captionless.training.early_stopping.Sign``."""

    images: int = 0  # seen at the last look
    value: float = math.inf  # the best one
    best: int = 0  # images seen when it was found
    worse: int = 0  # looks since then
    stopped: bool = False


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
        images, minutes = self.config.images, self.config.minutes
        if images is None and minutes is None:
            minutes = DEFAULT_MINUTES
        return min(1.0, max(self.images_seen / (images or math.inf), self.seconds / (60 * (minutes or math.inf))))

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
        self.loss = float(self.loss_average) / (1 - LOSS_DECAY**self.steps)
        if not math.isfinite(self.loss):
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


def save_state(folder: Path, state: TrainState) -> None:
    """Atomically write everything needed for an exact resume to one safetensors file.

    Raises:
        CaptionlessError: the weights are not finite (a good checkpoint is never replaced by a bad one), or the file
            cannot be written.
    """
    if not all(bool(weights.isfinite().all()) for weights in state.network.parameters()):
        raise diverged(state)
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    if state.kept is not None:
        tensors |= {f"kept.{k}": v for k, v in state.kept.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    counter = {
        "format": FORMAT,
        "images": state.images_seen,
        "seconds": state.seconds,
        "loss": state.loss,
        "loss_average": float(state.loss_average),
        "looks": asdict(state.looks),
    }
    save_tensors(folder / STATE, tensors, {"counter": json.dumps(counter)})


def restore_state(folder: Path, state: TrainState) -> None:
    """Load what ``save_state`` wrote into a newly created ``state`` of the same architecture."""
    tensors = read_tensors(folder / STATE)
    try:
        counter = json.loads(read_metadata(folder / STATE)["counter"])
        if "images" in counter and counter.get("format") != FORMAT:
            raise cannot_resume(folder, "another version of captionless began it, whose random numbers were different")
        state.network.load_state_dict(_below("network.", tensors))
        state.average.load_state_dict(_below("average.", tensors))
        optimizer = state.optimizer.state_dict()
        for name, value in _below("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            optimizer["state"].setdefault(int(index), {})[key] = value
        state.optimizer.load_state_dict(optimizer)
        _match_layout(state.optimizer)
        state.images_seen, state.seconds, state.loss = counter["images"], counter["seconds"], counter["loss"]
        state.loss_average.fill_(counter["loss_average"])
        if state.config.early_stopping and (kept := _below("kept.", tensors)):
            state.keep_average(0.0)
            state.chosen.load_state_dict(kept)
            state.looks = Looks(**counter["looks"])
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
            if value.shape == weights.shape:
                moments[key] = torch.empty_like(weights, requires_grad=False).copy_(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
