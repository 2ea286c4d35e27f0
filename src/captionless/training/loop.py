"""The training loop, built on `accelerate`: any device, mixed precision, several processes and exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from captionless.device import autocast, resolve_precision
from captionless.models import ema
from captionless.progress import Progress
from captionless.training.dataset import Examples, batch_indices
from captionless.training.state import TrainState, diverged
from captionless.training.step import step_generator, step_loss

LOSS_EVERY = 20
"""Steps between updates of the smoothed loss; each update synchronises with the device."""


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


def loop(state: TrainState, examples: Examples, callbacks: Sequence[Callback], accelerator: Accelerator) -> None:
    """Train until the limit set in ``state.config`` (images or minutes) is reached.

    Each process calls its own callbacks. Any exception other than ``StopTraining`` ends training without calling
    ``on_end``.

    Raises:
        CaptionlessError: the loss became non-finite.
        StopTraining: a callback raised it; ``on_end`` has been called.
    """
    for callback in callbacks:
        callback.on_start(state)
    stopped: StopTraining | None = None
    try:
        _steps(state, examples, callbacks, accelerator)
    except StopTraining as stop:
        stopped = stop
    for callback in callbacks:
        callback.on_end(state)
    if stopped:
        raise stopped


def _steps(state: TrainState, examples: Examples, callbacks: Sequence[Callback], accelerator: Accelerator) -> None:
    network, optimizer = accelerator.prepare(state.network, state.optimizer)
    config, device, process = state.config, accelerator.device, accelerator.process_index
    precision = resolve_precision(config.precision, device)
    losses: list[Tensor] = []
    while not state.finished:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = state.learning_rate
        batch = examples.batch(batch_indices(len(examples.pixels), state.images_seen, config, process), device)
        generator = step_generator(config.seed, process, state.images_seen)
        torch.manual_seed(generator.initial_seed())  # makes dropout independent of earlier steps, too
        with autocast(precision, device):
            loss = step_loss(network, state.schedule, batch, config, generator)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total = config.batch * accelerator.num_processes
        state.images_seen += total
        ema.update(state.average, state.network, ema.decay(total, state.images_seen, config.ema_half_life))
        losses.append(loss.detach())
        if len(losses) == LOSS_EVERY or state.finished:
            _smooth_loss(state, losses, accelerator)
        state.seconds += _agreed(accelerator, time.perf_counter() - started)
        for callback in callbacks:
            callback.on_step(state)


def _smooth_loss(state: TrainState, losses: list[Tensor], accelerator: Accelerator) -> None:
    """Update the smoothed loss (a moving average) with the latest losses, and clear their list."""
    # All processes get the same mean, so that they continue or stop together.
    mean = float(accelerator.gather(torch.stack(losses).mean().reshape(1)).mean())
    losses.clear()
    if not math.isfinite(mean):
        raise diverged(state)
    state.loss = mean if math.isnan(state.loss) else 0.8 * state.loss + 0.2 * mean


def _agreed(accelerator: Accelerator, seconds: float) -> float:
    """Return the same step time on all processes, so that all of them stop after the same step.

    This is the shortest time: the other processes waited for that one, for example while it wrote a checkpoint.
    """
    if accelerator.num_processes == 1:
        return seconds
    return float(accelerator.gather(torch.tensor([seconds], device=accelerator.device)).min())
