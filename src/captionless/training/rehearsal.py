"""Rehearse a training for a few seconds on this machine, to measure how many images it sees per second."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from captionless.config.training import TrainConfig
from captionless.device import to_device
from captionless.models.unet import Denoiser, DenoiserConfig
from captionless.training.crops import source_size
from captionless.training.dataset import Examples
from captionless.training.loop import LOSS_EVERY, Callback, StopTraining, loop
from captionless.training.network import initial_schedule, network_config
from captionless.training.processes import Processes
from captionless.training.start import Start
from captionless.training.state import TrainState, begin_state

Rehearse = Callable[[Start, TrainConfig], float]
"""Returns the images that a training sees per second, in all processes together."""
SECONDS = 4.0
"""Length of a rehearsal, without its first steps. A plan needs one or two."""
FIRST_STEPS = 3
"""Steps (on an accelerator, groups of steps) that are not timed: they allocate memory and choose kernels."""
BUSY = 1.5
"""Load average for each CPU above which the computer is called busy; a training that just ended leaves up to 1."""
CONDITION_WIDTH = 512
"""Length of the conditions in a rehearsal; that of the training is known only once an encoder is chosen, and costs
next to nothing."""


def rehearse_with(device: torch.device, processes: Processes) -> Rehearse:
    """Return a function that rehearses trainings on the device of each of the processes."""
    return lambda start, config: _images_per_second(start, config, device, processes)


def busy_remark() -> str:
    """Return a remark if other programs keep the CPUs busy and this one has several threads, else an empty string."""
    load, cpus = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load <= BUSY * cpus or torch.get_num_threads() == 1:
        return ""
    return f" This computer is busy (load {load:.0f} on {cpus} CPUs): one thread (OMP_NUM_THREADS=1) may be faster."


def rehearsed_shape(start: Start, config: TrainConfig) -> DenoiserConfig:
    """Return the network that a training would have with conditions of ``CONDITION_WIDTH`` elements."""
    width = start.config.denoiser.condition_width if start.config else CONDITION_WIDTH
    return network_config(start, config, width)


@cache
def flops(shape: DenoiserConfig, size: int) -> int:
    """Return the floating-point operations of a forward pass for one image of side ``size``."""
    network = Denoiser(shape).eval()
    image = torch.zeros(1, shape.channels + shape.low_res_channels, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, torch.zeros(1), torch.zeros(1, shape.condition_width))
    return int(counter.get_total_flops())


def _images_per_second(start: Start, config: TrainConfig, device: torch.device, processes: Processes) -> float:
    """Train a network with random weights on random images for ``SECONDS``, and return the images seen per second.

    The clock is the one of the training state, on which all processes agree; so they stop after the same step.
    """
    shape = rehearsed_shape(start, config)
    config = config.replace(images=None, minutes=60.0)
    schedule = initial_schedule(start, config, shape)
    network = to_device(Denoiser(shape).train(), device)
    # An accelerator works on after a step returns, except where the loss is read.
    stopwatch = _Stopwatch(every=1 if device.type == "cpu" else LOSS_EVERY)
    state, examples = begin_state(network, config, schedule), _random_images(start, config, shape)
    with torch.random.fork_rng(devices=[]), suppress(StopTraining):
        loop(state, examples, [stopwatch], processes)
    return stopwatch.rate


def _random_images(start: Start, config: TrainConfig, shape: DenoiserConfig) -> Examples:
    generator = torch.Generator().manual_seed(0)

    def images(size: int) -> torch.Tensor:
        return torch.randint(0, 256, (256, shape.channels, size, size), generator=generator, dtype=torch.uint8)

    conditions = torch.nn.functional.normalize(torch.randn(256, shape.condition_width, generator=generator), dim=1)
    examples = Examples(images(config.size // start.space.factor), conditions)
    if start.base_config:
        examples = replace(examples, low_res=images(start.base_config.size))
    return replace(examples, source=images(source_size(config.size))) if config.crop < 1 else examples


class _Stopwatch(Callback):
    """Time the steps after the first ones, in groups of ``every`` steps, and end the rehearsal."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.ends: list[tuple[int, float]] = []  # images seen and seconds at the end of each group

    @property
    def rate(self) -> float:
        """Images per second: the median over the groups, which ignores what else the machine did for a moment."""
        rates = [(later[0] - earlier[0]) / max(later[1] - earlier[1], 1e-9) for earlier, later in pairwise(self.ends)]
        return median(rates)

    def on_step(self, state: TrainState) -> None:
        """Note the end of a group; stop once ``SECONDS`` have been timed."""
        if state.steps % self.every:
            return
        group = state.steps // self.every
        if group < (FIRST_STEPS if state.seconds < SECONDS else 1):  # where steps are slow, one is enough
            return
        self.ends.append((state.images_seen, state.seconds))
        if state.seconds - self.ends[0][1] >= SECONDS:
            raise StopTraining
