"""Log a training run to TensorBoard, Weights & Biases, MLflow or Trackio, through accelerate's trackers."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from captionless.errors import CaptionlessError
from captionless.training.loop import LOSS_EVERY, Callback
from captionless.training.state import TrainState


def check_tracker(name: str) -> None:
    """Raise unless the package of a tracker is installed."""
    if find_spec(name) is None:
        raise CaptionlessError(
            f"`track={name}` needs the package {name}. Install it: pip install {name}",
            parameter="track",
            value=name,
            code="not_installed",
        )


def tracked_accelerator(out: Path, track: str | None) -> Accelerator:
    """Return an accelerator that logs to a tracker, if one is given, in the sub-folder ``log`` of ``out``."""
    where = ProjectConfiguration(project_dir=str(out), logging_dir=str(out / "log"))
    # The loop applies autocast itself, according to the training settings.
    # Without an accelerator, its processes would not find each other unless they are told that there is none.
    cpu = not torch.accelerator.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no", log_with=track, project_config=where)


class Tracking(Callback):
    """Log the loss, learning rate and training seconds every ``LOSS_EVERY`` steps, when the smoothed loss is updated.

    Other callbacks pass further values to ``log``.
    """

    def __init__(self, accelerator: Accelerator, out: Path) -> None:
        self.accelerator, self.out = accelerator, out

    def on_start(self, state: TrainState) -> None:
        """Open the tracker's run and record the training settings."""
        settings = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in state.config.model_dump().items()
        }
        self.accelerator.init_trackers("captionless", settings, {"wandb": {"name": self.out.name}})

    def on_step(self, state: TrainState) -> None:
        """Log the state if the smoothed loss has just been updated."""
        if state.steps % LOSS_EVERY == 0:
            self.log({"loss": state.loss, "learning_rate": state.learning_rate, "seconds": state.seconds}, state)

    def log(self, values: dict[str, float], state: TrainState) -> None:
        """Log values by name, with the number of images seen as the step."""
        self.accelerator.log(values, step=state.images_seen)

    def close(self) -> None:
        """Flush pending values and close the trackers, however the run ended."""
        for tracker in self.accelerator.trackers:
            try:
                tracker.finish()
            except OSError as error:  # it would hide why training ended
                warnings.warn(f"the log of {tracker.name} is incomplete: {error}", stacklevel=2)
