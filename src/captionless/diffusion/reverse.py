"""The reverse process: the noise levels a sampler passes through, and the loop that answers its requests.

A sampler is a generator. Wherever it needs a prediction, it yields noisy images and their noise level, and receives the
predicted clean images: ``x0 = yield x, t``. It calls no network, so whoever drives it decides how predictions are made:

    images = drive(ddim(x, ReverseProcess(schedule, times)), denoise)     one sampler, any function for x0
    steps = advance(runs, network)                                        one network call for several samplers

``advance`` packs the rows of runs that may differ in sampler, times, step, guidance and random generators. Between two
calls a run can be watched (each call returns a ``Step``), cancelled (drop it), or joined by others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from captionless.diffusion.guidance import GuidedPrediction
from captionless.diffusion.objective import Denoise, Network
from captionless.diffusion.schedules import Schedule
from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level, ``x = alpha * x0 + sigma * eps``, and the time at which the schedule has it.

    ``alpha`` is 0 for pure noise, ``sigma`` for clean images. Their squares need not add up to 1.

    Args:
        t: the time, a scalar tensor.
        alpha: factor of the clean image.
        sigma: standard deviation of the noise.
        step: the number of the step that begins at this level, from 0; None for the level at the end of a step.
    """

    t: Tensor
    alpha: float
    sigma: float
    step: int | None = None

    @property
    def lam(self) -> float:
        """``lambda = log(alpha / sigma)``, half the log-SNR; minus infinity for pure noise, infinity for no noise."""
        if self.alpha == 0:
            return -math.inf
        return math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


Sampling = Generator[tuple[Tensor, NoiseLevel], Tensor, Tensor]
"""A started sampler: it yields ``(x, t)``, is sent the predicted ``x0``, and returns the final images."""


@dataclass(frozen=True)
class ReverseProcess:
    """The inputs of a sampler but for the predictions, which it receives through ``yield``.

    Args:
        schedule: the noise levels of the times.
        times: float64, strictly falling from that of the initial state, usually to exactly 0.
        noise: returns fresh standard normal noise of the shape of the images, each image's from its own generator;
            unused by samplers that add none.
        pure: treat the initial state as noise alone, whatever trace of an image (``alpha``) the schedule has at that
            time. Heun's method, from an even grid, would otherwise amplify that trace to an image that was never there.
    """

    schedule: Schedule
    times: Tensor
    noise: Callable[[], Tensor] | None = None
    pure: bool = False

    def steps(self) -> Iterator[tuple[NoiseLevel, NoiseLevel]]:
        """Yield the levels ``t`` and ``s`` that each step leads from and to."""
        for step, (t, s) in enumerate(itertools.pairwise(self.times)):
            yield self.level(t, step), self.level(s)

    def level(self, t: Tensor, step: int | None = None) -> NoiseLevel:
        """Return the noise level at a time.

        Time 0 is the clean image, whatever trace of noise a schedule leaves there: hence the last step of every
        sampler ends at its own prediction, and none needs a case for it.
        """
        if t == 0:
            return NoiseLevel(t, 1.0, 0.0, step)
        alpha, sigma = self.schedule.alpha_sigma(t)
        return NoiseLevel(t, 0.0 if self.pure and t == self.times[0] else float(alpha), float(sigma), step)

    def draw(self, std: float) -> Tensor | float:
        """Return fresh noise with standard deviation ``std``; if ``std`` is 0, nothing is drawn."""
        if std <= 0:
            return 0.0
        if self.noise is None:
            raise CaptionlessError("this sampler is stochastic. Pass a noise function to ReverseProcess as `noise`.")
        return std * self.noise()


class Step(NamedTuple):
    """One step of a sampler.

    Args:
        number: its number, from 0.
        t: the time it begins at.
        x: the noisy images that it begins from.
        x0: the clean images predicted from them: a preview.
    """

    number: int
    t: float
    x: Tensor
    x0: Tensor


OnStep = Callable[[Step], None]
"""Receives every step of a loop, once; an exception raised here ends the loop."""


def drive(sampling: Sampling, denoise: Denoise, on_step: OnStep | None = None) -> Tensor:
    """Run a sampler, just called, to its end and return its images."""
    x, t = next(sampling)
    while True:
        x0 = denoise(x, t.t)
        if on_step and t.step is not None:
            on_step(Step(t.step, float(t.t), x, x0))
        try:
            x, t = sampling.send(x0)
        except StopIteration as end:
            images: Tensor = end.value
            return images


class SamplerRun:
    """A sampler under way, whose predictions come from a network: its open request ``x, t``; at last its ``images``.

    Args:
        sampling: a sampler, just called.
        prediction: which rows to evaluate, and how to combine the outputs.
        low_res: channels to concatenate to the noisy images, (n, k, s, s): the low-resolution images of a
            super-resolution stage.
        constrain: applied to each predicted ``x0``; in editing, it restores what is known of the images.
    """

    def __init__(
        self,
        sampling: Sampling,
        prediction: GuidedPrediction,
        low_res: Tensor | None = None,
        constrain: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.prediction, self.low_res, self.constrain = prediction, low_res, constrain
        self.images: Tensor | None = None
        self._sampling = sampling
        self.x, self.t = next(sampling)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network inputs of the open request: noisy images, times and conditions, k rows per image."""
        xt = self.x if self.low_res is None else torch.cat([self.x, self.low_res.to(self.x)], dim=1)
        return self.prediction.rows(xt, self.t.t)

    def receive(self, output: Tensor) -> Step | None:
        """Continue, to the next request or the end, with the network's output for ``rows``.

        Returns:
            The step that the request began; None for a further prediction within a step (Heun's second).
        """
        x0 = self.prediction.combine(self.x, self.t.t, output)
        x0 = self.constrain(x0) if self.constrain else x0
        step = None if self.t.step is None else Step(self.t.step, float(self.t.t), self.x, x0)
        try:
            self.x, self.t = self._sampling.send(x0)
        except StopIteration as end:
            self.images = end.value
        return step


def advance(runs: Sequence[SamplerRun], network: Network) -> list[Step | None]:
    """Take the next prediction of each run, all from one network call; return the step that each took.

    None of the runs has finished, and all are for this network. They may differ in anything else.
    """
    inputs = [run.rows() for run in runs]
    xt, t, condition = (torch.cat(parts) for parts in zip(*inputs, strict=True))
    outputs = torch.split(network(xt, t, condition), [len(rows) for rows, _, _ in inputs])
    return [run.receive(output) for run, output in zip(runs, outputs, strict=True)]
