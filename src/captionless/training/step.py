"""Take training steps: the loss of a batch, its gradients, the optimizer and the average of the weights.

A step is a function of tensors that keep their place on the device. Nothing in it waits for the device or depends on a
value, so CUDA replays it as one captured graph, whose launch costs the host next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.backends import cudnn

from captionless.config.training import TrainConfig
from captionless.data.arrays import normalise
from captionless.device import autocast, memory_format, resolve_precision
from captionless.diffusion.objective import (
    denoising_loss,
    drop_condition,
    mask_condition,
    noise_condition,
    quantile_times,
)
from captionless.diffusion.schedules import Schedule
from captionless.diffusion.super_resolution import low_res_channels, with_low_res
from captionless.errors import CaptionlessError
from captionless.models import ema
from captionless.models.blocks import Dropout
from captionless.models.capture import Captured
from captionless.training.crops import cut, mirrored, random_crops, with_crops
from captionless.training.dataset import Examples
from captionless.training.feed import Feed
from captionless.training.processes import Processes
from captionless.training.randomness import Stream, normal, uniform
from captionless.training.state import LOSS_DECAY, TrainState
from captionless.training.working_copy import WorkingCopy


@dataclass(frozen=True)
class Batch:
    """The images of a training step, or of a part of it."""

    x0: Tensor  # in [-1, 1], (n, channels, side, side)
    condition: Tensor  # (n, d)
    low_res: Tensor | None = None  # x0 at the base model's size, for a super-resolution stage
    crops: Tensor | None = None  # the part of each image that x0 shows, (n, 3); see ``random_crops``
    mirrored: Tensor | None = None  # x0 of the mirrored images, unless it is x0 mirrored


def whole_images(pixels: Tensor, condition: Tensor, low_res: Tensor | None, channels: int) -> Batch:
    """Return a batch of whole images as they are stored, in [0, 255]; mirrored ones may be appended to the channels."""
    x0, *mirrored = torch.split(normalise(pixels), channels, dim=1)
    low_res = None if low_res is None else normalise(low_res)
    return Batch(x0, condition, low_res, mirrored=mirrored[0] if mirrored else None)


def step_loss(
    network: Callable[..., Tensor], schedule: Schedule, batch: Batch, config: TrainConfig, stream: Stream
) -> Tensor:
    """Return the mean loss of a batch; flips, times, noise and dropped conditions are drawn from ``stream``.

    Times are stratified over the ``config.batch`` images of the whole step, of which these may be a part.
    """
    x0, condition, low_res, crops = batch.x0, batch.condition, batch.low_res, batch.crops
    elementwise = config.mask == "element"
    # One call of the generator draws everything; it works in blocks of four words.
    sizes = [
        4,
        x0[0].numel(),
        condition.shape[1] if config.condition_cosine < 1 else 0,
        condition.shape[1] if elementwise else 0,
        0 if low_res is None else low_res[0].numel(),
    ]
    blocks = [-(-size // 4) * 4 for size in sizes]
    scalars, eps, condition_eps, elements, low_res_eps = torch.split(stream.words(sum(blocks)), blocks, dim=1)
    flipped, share, dropped, level = uniform(scalars).unbind(1)

    if config.flip:
        flip = (flipped < 0.5).reshape(-1, 1, 1, 1)
        x0 = torch.where(flip, x0.flip(3) if batch.mirrored is None else batch.mirrored, x0)
        low_res = None if low_res is None else torch.where(flip, low_res.flip(3), low_res)
        crops = None if crops is None else mirrored(crops, flip.flatten())
    if crops is not None:
        network = with_crops(network, crops)
    stratum = stream.positions % config.batch
    t = quantile_times(schedule, (stratum + share) / config.batch, config.weighting)
    if config.condition_cosine < 1:
        noise = normal(condition_eps)[:, : condition.shape[1]]
        condition = noise_condition(condition, noise, config.condition_cosine)
    if elementwise:
        condition = mask_condition(condition, uniform(elements)[:, : condition.shape[1]], config.condition_drop)
    else:
        condition = drop_condition(condition, dropped, config.condition_drop)
    if low_res is not None:
        noise = _normal_like(low_res, low_res_eps)
        network = with_low_res(
            network, low_res_channels(low_res, config.size, config.augmentation_noise * level, noise)
        )
    x0 = x0.contiguous(memory_format=memory_format(x0.device))
    return denoising_loss(
        network, schedule, x0, condition, t, _normal_like(x0, eps), config.prediction, config.weighting
    )


def _normal_like(images: Tensor, words: Tensor) -> Tensor:
    return normal(words)[:, : images[0].numel()].reshape(images.shape)


class TrainStep:
    """Takes the steps of a training run; none of them waits for the device.

    Args:
        state: the train state, which each step changes.
        examples: the training images.
        processes: the processes that share the batch.
        say: receives a remark if steps cannot be captured on a CUDA device.

    Raises:
        CaptionlessError: the batch has fewer images than there are processes and micro-batches.
    """

    def __init__(
        self,
        state: TrainState,
        examples: Examples,
        processes: Processes | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.state, self.processes = state, processes or Processes()
        config, device = state.config, state.loss_average.device
        self.precision = resolve_precision(config.precision, device)
        self.part = self.processes.part(config.batch)
        check_parts(config, self.processes.number)
        self.feed = Feed(examples, len(self.part), device)
        self.base_size = 0 if examples.low_res is None else examples.low_res.shape[3]
        self.position = torch.zeros((), dtype=torch.int64, device=device)  # of the step's first image
        self.keep = torch.zeros((), device=device)  # decay of the average
        self.loss = torch.zeros((), device=device)  # of the step
        self.learning_rate: Tensor = state.optimizer.param_groups[0]["lr"]
        self.offsets = torch.arange(self.part.start, self.part.stop, device=device)
        self.weights = [weight for weight in state.network.parameters() if weight.requires_grad]
        self.worker = WorkingCopy(state.network, self.precision)
        self.dropouts = [module for module in self.worker.network.modules() if isinstance(module, Dropout)]
        self.worker.network.checkpoint_activations = config.checkpoint_activations
        self.phases: list[Callable[[], None]] = [Captured(self._whole, device, say)]
        if self.processes.number > 1:  # the exchange between processes is not captured
            self.phases = [Captured(self._backward, device, say), self._exchange, Captured(self._update, device, say)]

    def __call__(self) -> None:
        """Take the next step."""
        state, config = self.state, self.state.config
        first = state.images_seen
        self.feed.load(range(first + self.part.start, first + self.part.stop), config.seed)
        self.position.fill_(first)
        self.learning_rate.fill_(state.learning_rate)
        self.keep.fill_(ema.decay(config.batch, first + config.batch, config.ema_half_life))
        for phase in self.phases:
            with cudnn.flags(enabled=True, benchmark=True):  # shapes never change
                phase()
        state.images_seen += config.batch

    def _whole(self) -> None:
        self._backward()
        self._update()

    def _backward(self) -> None:
        """Compute the loss and the gradients of this process's part of the batch, one micro-batch after another."""
        config, count = self.state.config, len(self.part)
        self.worker.load()
        self.loss.zero_()
        for number in range(config.accumulate):
            rows = slice(number * count // config.accumulate, (number + 1) * count // config.accumulate)
            loss = self._micro_batch_loss(rows) * ((rows.stop - rows.start) / config.batch)
            torch.autograd.backward(loss)
            self.worker.add_gradients()
            self.loss.add_(loss.detach())

    def _micro_batch_loss(self, rows: slice) -> Tensor:
        state, stream = self.state, Stream(self.state.config.seed, self.position + self.offsets[rows])
        for number, dropout in enumerate(self.dropouts, start=1):
            dropout.draw = partial(stream.bytes, purpose=number)
        batch = self._batch(rows, stream)
        with autocast(self.precision, self.position.device):
            return step_loss(self.worker.network, state.schedule, batch, state.config, stream)

    def _batch(self, rows: slice, stream: Stream) -> Batch:
        feed, config = self.feed, self.state.config
        condition = feed.conditions[rows]
        if config.crop < 1:
            images, crops = normalise(feed.pixels[rows]), random_crops(stream, config)
            low_res = cut(images, crops, self.base_size) if self.base_size else None
            return Batch(cut(images, crops, config.size), condition, low_res, crops)
        low_res = None if feed.low_res is None else feed.low_res[rows]
        return whole_images(feed.pixels[rows], condition, low_res, self.state.network.config.channels)

    def _exchange(self) -> None:
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        self.processes.add([*gradients, self.loss])

    def _update(self) -> None:
        """Update the weights, their average and the smoothed loss."""
        state = self.state
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        state.optimizer.step()
        ema.update(state.average, state.network, self.keep)
        state.loss_average.lerp_(self.loss, 1 - LOSS_DECAY)


def check_parts(config: TrainConfig, processes: int) -> None:
    """Raise unless every process has an image for every micro-batch."""
    if config.batch < config.accumulate * processes:
        raise CaptionlessError(
            f"`batch={config.batch}` is the number of images of a whole step, too few for `accumulate="
            f"{config.accumulate}` on {processes} processes. Choose a larger `batch` or a smaller `accumulate`.",
            parameter="batch",
            value=config.batch,
            code="conflicting_settings",
        )
