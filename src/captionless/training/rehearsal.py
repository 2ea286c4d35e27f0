"""Rehearse a training for a few seconds on this machine, to measure how many images it sees per second."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from captionless.config.training import TrainConfig
from captionless.device import to_device, usable_cpus
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
CONDITION_WIDTH = 512
"""Length of the conditions in a rehearsal; that of the training is known only once an encoder is chosen, and costs
next to nothing."""


def rehearse_with(device: torch.device, processes: Processes, *, choose_threads: bool = False) -> Rehearse:
    """Return a function that rehearses trainings on the device of each of the processes.

    Args:
        choose_threads: whether a rehearsal on the CPU also chooses its number of threads, and keeps it.
    """

    def rehearse(start: Start, config: TrainConfig) -> float:
        def rate(seconds: float) -> float:
            return _images_per_second(start, config, device, processes, seconds)

        alone = device.type == "cpu" and processes.number == 1
        return with_fastest_threads(rate) if choose_threads and alone else rate(SECONDS)

    return rehearse


def with_fastest_threads(rate: Callable[[float], float]) -> float:
    """Return the best rate of all usable CPUs, half of them, and so on; keep the number of threads that has it.

    Threads that have to wait for each other, because other programs use the CPUs or the network is small, are slower
    than fewer of them.

    Args:
        rate: measures the rate for a number of seconds.
    """
    threads = usable_cpus()
    torch.set_num_threads(threads)
    best = rate(SECONDS)
    while threads > 1:
        torch.set_num_threads(threads // 2)
        fewer = rate(SECONDS / 2)
        if fewer < best:
            torch.set_num_threads(threads)
            break
        threads, best = threads // 2, fewer
    return best


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


def _images_per_second(
    start: Start, config: TrainConfig, device: torch.device, processes: Processes, seconds: float
) -> float:
    """Train a network with random weights on random images for a while, and return the images seen per second.

    The clock is the one of the training state, on which all processes agree; so they stop after the same step.
    """
    shape = rehearsed_shape(start, config)
    config = config.replace(images=None, minutes=60.0)
    schedule = initial_schedule(start, config, shape)
    network = to_device(Denoiser(shape).train(), device)
    # An accelerator works on after a step returns, except where the loss is read.
    stopwatch = _Stopwatch(1 if device.type == "cpu" else LOSS_EVERY, seconds)
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
    """Time the steps after the first ones for ``seconds``, in groups of ``every`` steps, and end the rehearsal."""

    def __init__(self, every: int, seconds: float) -> None:
        self.every, self.seconds = every, seconds
        self.ends: list[tuple[int, float]] = []  # images seen and seconds at the end of each group

    @property
    def rate(self) -> float:
        """Images per second: the median over the groups, which ignores what else the machine did for a moment."""
        rates = [(later[0] - earlier[0]) / max(later[1] - earlier[1], 1e-9) for earlier, later in pairwise(self.ends)]
        return median(rates)

    def on_step(self, state: TrainState) -> None:
        """Note the end of a group; stop once the time is over."""
        if state.steps % self.every:
            return
        group = state.steps // self.every
        if group < (FIRST_STEPS if state.seconds < self.seconds else 1):  # where steps are slow, one is enough
            return
        self.ends.append((state.images_seen, state.seconds))
        if state.seconds - self.ends[0][1] >= self.seconds:
            raise StopTraining
