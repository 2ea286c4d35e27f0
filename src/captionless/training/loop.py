"""The training loop: any device, mixed precision, several processes and exact resume."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence

from captionless.config.training import TrainConfig
from captionless.device import is_out_of_memory
from captionless.errors import CaptionlessError
from captionless.progress import Progress
from captionless.training.dataset import Examples
from captionless.training.processes import Processes
from captionless.training.state import TrainState
from captionless.training.step import TrainStep

LOSS_EVERY = 20
"""Steps between readings of the smoothed loss; each waits for the device."""


class Callback:
    """Hooks around the training steps; each method does nothing unless overridden."""

    def on_start(self, state: TrainState) -> None:
        """Called before the first step."""

    def on_step(self, state: TrainState) -> None:
        """Called after each step."""

    def on_end(self, state: TrainState) -> None:
        """Called after the last step, even if ``StopTraining`` ended training early."""


class StopTraining(KeyboardInterrupt):
    """Raised by a callback to end the run between two steps."""


class LoopProgress(Callback):
    """Report the training progress in thousandths, with the images seen and the loss."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step(self, state: TrainState) -> None:
        """Report the state after a step."""
        detail = f"{state.images_seen:,} images seen" + ("" if math.isnan(state.loss) else f", loss {state.loss:.4f}")
        self.progress.advance("Training", round(1000 * state.progress), 1000, detail)


def loop(
    state: TrainState,
    examples: Examples,
    callbacks: Sequence[Callback],
    processes: Processes | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Train until the limit set in ``state.config`` (images or minutes) is reached.

    Each process calls its own callbacks. Any exception other than ``StopTraining`` ends training without calling
    ``on_end``.

    Args:
        state: the state to start from, which is updated.
        examples: the training images.
        callbacks: called around the steps, in this order.
        processes: the processes that train together; by default, this one alone. None returns before all have
            called ``on_end``: a launcher ends the others when one of them ends in an error.
        say: receives remarks.

    Raises:
        CaptionlessError: the loss became non-finite, the memory is too small, or the batch is too small to be divided.
        StopTraining: a callback raised it; ``on_end`` has been called.
    """
    processes = processes or Processes()
    for callback in callbacks:
        callback.on_start(state)
    stopped: StopTraining | None = None
    try:
        _steps(state, TrainStep(state, examples, processes, say), callbacks)
    except StopTraining as stop:
        stopped = stop
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise _out_of_memory(state.config) from None
        raise
    for callback in callbacks:
        callback.on_end(state)
    processes.wait()
    if stopped:
        raise stopped


def _steps(state: TrainState, step: TrainStep, callbacks: Sequence[Callback]) -> None:
    while not state.finished:
        step.processes.wait()  # for what the callbacks of one process do; gradients are exchanged with less patience
        started = time.perf_counter()
        step()
        if state.steps % LOSS_EVERY == 0 or state.finished:
            state.read_loss()
        # All processes stop after the same step. The shortest time counts, because the other processes waited for the
        # one that took it, for example while it wrote a checkpoint.
        state.seconds += step.processes.least(time.perf_counter() - started)
        for callback in callbacks:
            _on_step(callback, state)


def _on_step(callback: Callback, state: TrainState) -> None:
    """Call a callback. If the disk refuses what it writes, training goes on: the next time may succeed."""
    try:
        callback.on_step(state)
    except (CaptionlessError, OSError) as error:
        if isinstance(error, CaptionlessError) and error.code != "cannot_write":
            raise
        warnings.warn(f"{error} Training goes on, and tries again later.", stacklevel=1)


def _out_of_memory(config: TrainConfig) -> CaptionlessError:
    remedies = [f"`accumulate={2 * config.accumulate}`, which divides the batch and trains the same"]
    if not config.checkpoint_activations:
        remedies.append("`checkpoint_activations=True`, which is slower")
    return CaptionlessError(
        f"there is not enough memory for steps of {config.batch} images of {config.size} x {config.size} pixels. "
        f"Choose {'; '.join(remedies)}; or a smaller `batch`, `width` or `size`. The last checkpoint is "
        "kept: `resume=True` continues from it.",
        parameter="accumulate",
        value=config.accumulate,
        code="out_of_memory",
    )
