"""The training loop, on `accelerate`: any device, mixed precision, several processes, exact resume.

Progress is counted in pictures. All randomness of a step follows from (seed, process, pictures seen), so a
resumed training needs no stored generator state and goes on as if it had never stopped (the habit of EDM2).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from captionless.checkpoints.model import STATE
from captionless.checkpoints.tensors import read_metadata, read_tensors, save_tensors
from captionless.config.training import DEFAULT_MINUTES, TrainConfig
from captionless.data.arrays import normalise
from captionless.device import autocast, resolve_precision
from captionless.diffusion import super_resolution as cascade
from captionless.diffusion.objective import (
    Network,
    denoising_loss,
    drop_condition,
    mask_condition,
    noise_condition,
    training_times,
)
from captionless.diffusion.schedules import Schedule
from captionless.errors import CaptionlessError
from captionless.models import ema
from captionless.models.unet import Denoiser

CHECK_EVERY = 20
"""Steps between looks at the loss; each look waits for the device."""


@dataclass(frozen=True)
class TrainingData:
    """What the loop learns from, in memory.

    Args:
        pixels: uint8 (n, channels, size, size).
        vectors: the pictures' unit vectors, float32 (n, d).
        small: of a model that enlarges, the small pictures, uint8 (n, channels, side, side).
    """

    pixels: Tensor
    vectors: Tensor
    small: Tensor | None = None


@dataclass
class Counter:
    """How far a training is: pictures seen (by all processes), seconds spent in steps, the smoothed loss."""

    images: int = 0
    seconds: float = 0.0
    loss: float = math.nan


@dataclass
class Training:
    """The state of a training: everything that ``save_state`` keeps and ``restore_state`` brings back."""

    network: Denoiser
    average: Denoiser
    optimizer: torch.optim.Optimizer
    counter: Counter


def begin(network: Denoiser, settings: TrainConfig) -> Training:
    """Return a fresh training of ``network``."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=False
    )
    average = ema.average_copy(network)
    assert isinstance(average, Denoiser)
    return Training(network, average, optimizer, Counter())


def progress(counter: Counter, settings: TrainConfig) -> float:
    """Return the share of the training that is done, in [0, 1], by pictures or minutes, whichever is further."""
    minutes = settings.minutes
    if settings.images is None and minutes is None:
        minutes = DEFAULT_MINUTES
    shares = [0.0]
    if settings.images is not None:
        shares.append(counter.images / settings.images)
    if minutes is not None:
        shares.append(counter.seconds / (60 * minutes))
    return min(1.0, max(shares))


def learning_rate(counter: Counter, settings: TrainConfig) -> float:
    """Return the rate for the next step: a linear warm-up, a plateau, a linear fall to zero at the end.

    The fall is what lets a stopped training be lengthened: more plateau can follow (arXiv:2405.18392).
    """
    rise = min(1.0, (counter.images + settings.batch) / settings.warm_up)
    fall = min(1.0, (1 - progress(counter, settings)) / settings.cool_down)
    return settings.learning_rate * rise * fall


def run(
    training: Training,
    data: TrainingData,
    schedule: Schedule,
    settings: TrainConfig,
    accelerator: Accelerator,
    on_step: Callable[[Training], None],
) -> None:
    """Train until the settings' length is reached.

    ``on_step`` is called after every step on every process; what it raises ends the training there.

    Raises:
        CaptionlessError: the loss is no longer a number.
    """
    network, optimizer = accelerator.prepare(training.network, training.optimizer)
    device, counter = accelerator.device, training.counter
    precision = resolve_precision(settings.precision, device)
    pixels, vectors = data.pixels, data.vectors
    losses: list[Tensor] = []
    while progress(counter, settings) < 1:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(counter, settings)
        index = batch_indices(len(pixels), counter.images, settings, accelerator.process_index)
        x0, condition = normalise(pixels[index].to(device)), vectors[index].to(device)
        small = None if data.small is None else normalise(data.small[index].to(device))
        generator = step_generator(settings.seed, accelerator.process_index, counter.images)
        torch.manual_seed(generator.initial_seed())  # what dropout draws must not depend on earlier steps either
        with autocast(precision, device):
            loss = step_loss(network, schedule, x0, condition, settings, generator, small)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total = settings.batch * accelerator.num_processes
        counter.images += total
        ema.update(training.average, training.network, ema.decay(total, counter.images, settings.ema_half_life))
        losses.append(loss.detach())
        if len(losses) == CHECK_EVERY or progress(counter, settings) == 1:
            _note_loss(counter, losses, accelerator)
        counter.seconds += _agreed(accelerator, time.perf_counter() - started)
        on_step(training)


def step_loss(
    network: Network,
    schedule: Schedule,
    x0: Tensor,
    condition: Tensor,
    settings: TrainConfig,
    generator: torch.Generator,
    small: Tensor | None = None,
) -> Tensor:
    """Return the loss of one batch: flips, times, noise and dropped conditions drawn from ``generator``.

    With ``small``, the same pictures in [-1, 1] (n, channels, side, side), the network learns to enlarge those.

    Random numbers are drawn on the CPU, so that they are the same whatever computes.
    """
    n, device = len(x0), x0.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape or (n,), generator=generator).to(device)

    if settings.flip:
        mirrored = (uniform() < 0.5).reshape(-1, 1, 1, 1)
        x0 = torch.where(mirrored, x0.flip(3), x0)
        small = None if small is None else torch.where(mirrored, small.flip(3), small)
    t = training_times(schedule, uniform(), settings.weighting)
    elementwise = settings.mask == "element"
    dropped = uniform(*condition.shape) if elementwise else uniform()
    eps = torch.randn(x0.shape, generator=generator).to(device)
    if settings.condition_cosine < 1:
        blur = torch.randn(condition.shape, generator=generator).to(device)
        condition = noise_condition(condition, blur, settings.condition_cosine)
    drop = mask_condition if elementwise else drop_condition
    condition = drop(condition, dropped, settings.condition_drop)
    if small is not None:
        noise = torch.randn(small.shape, generator=generator).to(device)
        shown = cascade.low_res_channels(small, settings.size, settings.augmentation_noise * uniform(), noise)
        network = cascade.with_low_res(network, shown)
    x0 = x0.contiguous(memory_format=torch.channels_last)
    return denoising_loss(network, schedule, x0, condition, t, eps, settings.prediction, settings.weighting)


def batch_indices(n: int, images: int, settings: TrainConfig, process: int) -> Tensor:
    """Return the pictures of the next batch of one process: a new order each time all n have been seen."""
    first = images + process * settings.batch
    positions = torch.arange(first, first + settings.batch)
    parts = []
    for epoch in range(int(positions[0]) // n, int(positions[-1]) // n + 1):
        order = torch.randperm(n, generator=step_generator(settings.seed, -1, epoch))
        parts.append(order[positions[positions // n == epoch] % n])
    return torch.cat(parts)


def step_generator(seed: int, process: int, images: int) -> torch.Generator:
    """Return the generator of one step; its state follows from the three numbers alone."""
    # Multiplying by large odd numbers spreads neighbouring triples over the seeds; PyTorch reads 32 bits of one.
    mixed = seed * 0x9E3779B97F4A7C15 + (process + 1) * 0xC2B2AE3D27D4EB4F + images * 0x165667B19E3779F9
    return torch.Generator().manual_seed(mixed % 2**32)


def save_state(folder: Path, training: Training) -> None:
    """Write what an exact resume needs, as one safetensors file, in one step.

    Raises:
        CaptionlessError: the weights are no longer numbers (a good checkpoint is never replaced by a bad one),
            or the file cannot be written.
    """
    if not all(bool(weights.isfinite().all()) for weights in training.network.parameters()):
        raise _diverged(training.counter)
    tensors = {f"network.{k}": v for k, v in training.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in training.average.state_dict().items()}
    for index, state in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    counter = {"images": training.counter.images, "seconds": training.counter.seconds, "loss": training.counter.loss}
    save_tensors(folder / STATE, tensors, {"counter": json.dumps(counter)})


def restore_state(folder: Path, training: Training) -> None:
    """Bring back what ``save_state`` wrote into a fresh ``training`` of the same shape."""
    tensors = read_tensors(folder / STATE)
    try:
        counter = json.loads(read_metadata(folder / STATE)["counter"])
        training.network.load_state_dict(_below("network.", tensors))
        training.average.load_state_dict(_below("average.", tensors))
        optimizer = training.optimizer.state_dict()
        for name, value in _below("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            optimizer["state"].setdefault(int(index), {})[key] = value
        training.optimizer.load_state_dict(optimizer)
        _match_layout(training.optimizer)
        training.counter = Counter(**counter)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CaptionlessError(f"{folder / STATE} does not fit this model. Train anew with --from {folder}.") from error


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give what was read the memory layout of its weights; mixed layouts are slow, and round differently."""
    for weights, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == weights.shape:
                state[key] = torch.empty_like(weights, requires_grad=False).copy_(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _note_loss(counter: Counter, losses: list[Tensor], accelerator: Accelerator) -> None:
    """Fold the latest losses into the counter's smoothed one, and empty the list."""
    # One number for all processes: they go on or stop together.
    mean = float(accelerator.gather(torch.stack(losses).mean().reshape(1)).mean())
    losses.clear()
    if not math.isfinite(mean):
        raise _diverged(counter)
    counter.loss = mean if math.isnan(counter.loss) else 0.8 * counter.loss + 0.2 * mean


def _diverged(counter: Counter) -> CaptionlessError:
    return CaptionlessError(
        f"the loss is no longer a number after {counter.images:,} pictures. What was saved before is kept. Start anew "
        "with a lower --learning-rate; after bf16, --resume --precision float32 may go on from the last checkpoint."
    )


def _agreed(accelerator: Accelerator, seconds: float) -> float:
    """Agree on the time of one step, so that all processes stop at the same one.

    The shortest counts: the others waited for it, such as while it wrote a checkpoint.
    """
    if accelerator.num_processes == 1:
        return seconds
    return float(accelerator.gather(torch.tensor([seconds], device=accelerator.device)).min())
