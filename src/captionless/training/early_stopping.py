"""Stop a training run once the model begins to memorise its images, and keep the best of its averaged weights.

The sign is the loss on held-out images, which rises when a model begins to memorise. Where too few images are held out
for that, it is the share of copies among images generated from the conditions of training images (arXiv:2310.02664).

All processes look, and agree on the smallest value, so that they stop after the same step.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.evaluation.metrics import Estimate, memorised, memorises, nearest, share
from captionless.generation.sample import Stage, sample
from captionless.models.unet import Denoiser
from captionless.progress import Progress
from captionless.training.dataset import Dataset, Examples
from captionless.training.loop import Callback
from captionless.training.processes import Processes
from captionless.training.randomness import Stream
from captionless.training.state import TrainState
from captionless.training.step import step_loss, whole_images

FEWEST = 8
"""Held-out images that the loss needs; with fewer, copies are counted instead."""
LOOKS, SHARE = 20, 0.03
"""Number of looks in a run, evenly spaced, and maximum share of its time; short runs have fewer."""
EVALUATIONS = 128
"""Noisy images whose loss is computed in a look."""
SAMPLES, STEPS, COMPARED = 20, 8, 1_000
"""Images to generate in a look, their sampling steps, and training images to compare them with."""
FORWARD = 1 / 3
"""Time to evaluate the network for an image, relative to training on it."""


class Sign(Protocol):
    """Something to look at; the smaller its value, the better the model."""

    cost: float
    """Time of a look, in images trained on."""
    patience: int
    """Number of successive looks, none of them as good as the best one, that end the run."""

    def __call__(self, network: Denoiser) -> float:
        """Return the value for the current averaged weights."""

    def describe(self, value: float, best: int) -> str:
        """Return in words what ended a run whose best look was after ``best`` images seen."""


class HeldOutLoss:
    """The loss of a training step on held-out images, always with the same times and noise."""

    cost, patience = EVALUATIONS * FORWARD, 4

    def __init__(self, held_out: Examples, state: TrainState) -> None:
        device = state.loss_average.device
        positions = torch.arange(EVALUATIONS)
        rows = positions % len(held_out.names)
        low_res = None if held_out.low_res is None else held_out.low_res[rows].to(device)
        pixels, conditions = held_out.read[rows].to(device), held_out.conditions[rows].to(device)
        self.batch = whole_images(pixels, conditions, low_res, state.network.config.channels)
        self.schedule = state.schedule
        self.config = state.config.replace(batch=EVALUATIONS)
        self.stream = Stream(self.config.seed, positions.to(device))

    @torch.no_grad()
    def __call__(self, network: Denoiser) -> float:
        """Return the mean loss."""
        return float(step_loss(network, self.schedule, self.batch, self.config, self.stream))

    def describe(self, value: float, best: int) -> str:
        """Return in words since when the loss has not fallen."""
        return f"the loss on held-out images has not fallen since {best:,}"


class Copies:
    """The share of copies among images generated from training conditions; 0 unless it is more than chance.

    Chance is the share of training images that look like copies of one of the others.
    """

    cost, patience = SAMPLES * STEPS * FORWARD, 1

    def __init__(self, dataset: Dataset, config: ModelConfig, flip: bool) -> None:
        train, self.space = dataset.train, dataset.space
        chosen = torch.randperm(len(train.names), generator=torch.Generator().manual_seed(0))[:COMPARED]
        self.known, self.config = train.pixels[chosen], config
        self.mirrored = self.known.flip(3).flatten(1) if flip else None
        self.conditions = train.conditions[chosen[torch.arange(SAMPLES) % len(chosen)]]
        everyone = torch.arange(len(chosen))
        alone = [self._matches(self.known[[i]], everyone[everyone != i]) for i in range(min(100, len(chosen)))]
        self.chance = share(sum(alone), len(alone))

    def __call__(self, network: Denoiser) -> float:
        """Return the share, 0 to 1."""
        device = next(network.parameters()).device
        config = SamplingConfig(steps=STEPS, guidance=0.0, precision="float32")
        images = sample([Stage(network, self.config, self.space)], self.conditions.to(device), range(SAMPLES), config)
        copies: Estimate = share(self._matches(images, torch.arange(len(self.known))), len(images))
        return copies.value if memorises([copies], self.chance, sound=True) else 0.0

    def describe(self, value: float, best: int) -> str:
        """Return the share in words."""
        return f"{value:.0%} of the images that it generates are copies of training images"

    def _matches(self, images: Tensor, others: Tensor) -> int:
        mirrored = None if self.mirrored is None else self.mirrored[others]
        return int(memorised(nearest(images.flatten(1), self.known[others].flatten(1), mirrored)).sum())


def choose_sign(dataset: Dataset, config: ModelConfig, state: TrainState) -> Sign:
    """Return what to look at: the held-out loss if enough images are held out, else copies.

    Raises:
        CaptionlessError: there are too few images for either.
    """
    held_out = len(dataset.held_out.names)
    if held_out >= FEWEST:
        return HeldOutLoss(dataset.held_out, state)
    if config.base_size is None:
        return Copies(dataset, config, state.config.flip)
    raise CaptionlessError(
        f"`early_stopping` of a super-resolution stage needs at least {FEWEST} held-out images, but there are "
        f"{held_out}. Choose a larger `hold_out`, or leave `early_stopping` out.",
        parameter="early_stopping",
        code="not_enough_images",
    )


class EarlyStopping(Callback):
    """Look at a sign from time to time, keep the best weights, and end the run when it is no longer the best."""

    def __init__(self, sign: Sign, processes: Processes, progress: Progress) -> None:
        self.sign, self.processes, self.progress = sign, processes, progress

    def on_step(self, state: TrainState) -> None:
        """Look if it is time to, or if training is finished."""
        looks, expected = state.looks, state.images_seen / state.progress
        due = state.images_seen - looks.images >= max(expected / LOOKS, self.sign.cost / SHARE)
        if not due and not state.finished:
            return
        value = self.processes.least(self.sign(state.average))
        looks.images = state.images_seen
        if value <= looks.value:
            state.keep_average(value)
            return
        looks.worse += 1
        if looks.worse >= self.sign.patience and not state.finished:
            looks.stopped = True
            self.progress.say(
                f"After {state.images_seen:,} images seen, the model begins to memorise: "
                f"{self.sign.describe(value, looks.best)}. The training ends here."
            )
        if state.finished:
            self.progress.say(
                f"The model has its weights after {looks.best:,} images seen, which were better than those at the end."
            )
