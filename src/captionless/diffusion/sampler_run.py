"""Run samplers: answer each prediction that a sampler requests with the output of a network.

    images = run_sampler(ddim(x, ReverseProcess(schedule, times)), denoise)     one sampler, any function for x0
    steps = advance(runs, network)                                              one network call for several samplers

A ``SamplerRun`` is a sampler in progress. ``advance`` batches the network inputs of several runs, which may differ in
sampler, times, step, guidance and random generators. Between two calls, a run can be monitored (each call returns a
``Step``), cancelled (by leaving it out of the next call), or joined by other runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from captionless.diffusion.guidance import GuidedPrediction, Rows, join_rows, predict
from captionless.diffusion.objective import Denoise, Network
from captionless.diffusion.reverse import Sampling


class Step(NamedTuple):
    """One step of a sampler.

    Attributes:
        number: index of the step.
        t: the time at which the step starts.
        x: the noisy images at that time.
        x0: the clean images predicted from ``x``.
    """

    number: int
    t: float
    x: Tensor
    x0: Tensor


OnStep = Callable[[Step], None]
"""A callback that is called once per step; an exception that it raises stops the sampler."""


def run_sampler(sampling: Sampling, denoise: Denoise, on_step: OnStep | None = None) -> Tensor:
    """Run a sampler from its first step to its last and return the images, in about [-1, 1]."""
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


Report = TypeVar("Report", covariant=True)


class Run(Protocol[Report]):
    """Something in progress that needs predictions: a ``SamplerRun``, or several one after the other."""

    def rows(self) -> Rows:
        """Return the network inputs for the next prediction."""

    def receive(self, output: Tensor) -> Report | None:
        """Continue with the network output for ``rows``."""


class SamplerRun:
    """A sampler in progress whose predictions come from a network.

    ``x`` and ``t`` are the noisy images and the noise level for which the sampler requests the next prediction.
    ``images`` is None until the last step, and then the sampled images.

    Args:
        sampling: the generator that a sampler returned, not yet started.
        prediction: builds the network inputs and combines the network outputs.
        low_res: channels to concatenate to the noisy images, (n, k, s, s), for a super-resolution stage; see
            ``captionless.diffusion.low_res_channels``.
        constrain: a function applied to each predicted ``x0``; editing uses it to restore the known pixels.
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

    @property
    def row_count(self) -> int:
        """The number of rows that ``rows`` returns."""
        return len(self.x) * self.prediction.rows_per_image(self.t.t)

    def rows(self) -> Rows:
        """Return the network inputs for the next prediction, k rows per image."""
        xt = self.x if self.low_res is None else torch.cat([self.x, self.low_res.to(self.x)], dim=1)
        return self.prediction.rows(xt, self.t.t)

    def receive(self, output: Tensor) -> Step | None:
        """Continue the sampler with the network output for ``rows``, up to its next request or its end.

        Returns:
            The step that this prediction started; None for the second prediction of a step of Heun's method.
        """
        x0 = self.prediction.combine(self.x, self.t.t, output)
        x0 = self.constrain(x0) if self.constrain else x0
        step = None if self.t.step is None else Step(self.t.step, float(self.t.t), self.x, x0)
        try:
            self.x, self.t = self._sampling.send(x0)
        except StopIteration as end:
            self.images = end.value
        return step


def advance(runs: Sequence[Run[Report]], network: Network) -> list[Report | None]:
    """Answer the requested prediction of every run with one network call.

    Args:
        runs: unfinished runs that all use ``network``; their settings may differ.
        network: the denoiser.

    Returns:
        The result of ``receive`` for each run.
    """
    inputs = [run.rows() for run in runs]
    outputs = torch.split(predict(network, join_rows(inputs)), [len(rows.t) for rows in inputs])
    return [run.receive(output) for run, output in zip(runs, outputs, strict=True)]
