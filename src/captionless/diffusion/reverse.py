"""The reverse process: the noise levels that a sampler passes through, and the interface of a sampler.

A sampler is a generator function (``captionless.diffusion.samplers``). Wherever it needs a prediction, it yields the
noisy images and their noise level, and receives the predicted clean images: ``x0 = yield x, t``. It never calls the
network itself; ``captionless.diffusion.sampler_run`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from torch import Tensor

from captionless.diffusion.schedules import Schedule
from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level of the forward process, ``x = alpha * x0 + sigma * eps``, and its time in the schedule.

    ``alpha`` is 0 for pure noise, and ``sigma`` is 0 for clean images. Their squares need not sum to 1.

    Args:
        t: the time, a scalar tensor.
        alpha: factor of the clean image.
        sigma: standard deviation of the noise.
        step: the index of the step that starts at this level; None for a level at the end of a step.
    """

    t: Tensor
    alpha: float
    sigma: float
    step: int | None = None

    @property
    def lam(self) -> float:
        """``lambda = log(alpha / sigma)``, half the log-SNR; -inf for pure noise, inf for clean images."""
        if self.alpha == 0:
            return -math.inf
        return math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


Sampling = Generator[tuple[Tensor, NoiseLevel], Tensor, Tensor]
"""The generator that a sampler returns: it yields ``(x, t)``, receives the predicted ``x0``, and returns the images."""


@dataclass(frozen=True)
class ReverseProcess:
    """The inputs of a sampler apart from the initial state and the predictions.

    Args:
        schedule: the noise schedule.
        times: strictly decreasing times, float64, from the time of the initial state to, usually, exactly 0.
        noise: returns new standard normal noise in the shape of the images, drawn from each image's own random
            generator. Deterministic samplers do not need it.
        pure: treat the initial state as pure noise, even if ``alpha`` of the schedule is not exactly 0 at its time.
            Otherwise, Heun's method on evenly spaced times would amplify a signal that the noise does not contain.
    """

    schedule: Schedule
    times: Tensor
    noise: Callable[[], Tensor] | None = None
    pure: bool = False

    def steps(self) -> Iterator[tuple[NoiseLevel, NoiseLevel]]:
        """Yield the noise levels ``(t, s)`` at the start and at the end of each step."""
        for step in range(len(self.times) - 1):  # by index: iterating would make all tensors beforehand
            yield self.level(self.times[step], step), self.level(self.times[step + 1])

    def level(self, t: Tensor, step: int | None = None) -> NoiseLevel:
        """Return the noise level at a time.

        Time 0 is treated as the clean image even if ``sigma`` of the schedule is not exactly 0 there. The last step of
        every sampler therefore returns its prediction without a special case.
        """
        if t == 0:
            return NoiseLevel(t, 1.0, 0.0, step)
        alpha, sigma = self.schedule.alpha_sigma(t)
        return NoiseLevel(t, 0.0 if self.pure and t == self.times[0] else float(alpha), float(sigma), step)

    def draw(self, std: float) -> Tensor | float:
        """Return new noise with standard deviation ``std``, or 0.0 without drawing noise if ``std`` is 0."""
        if std <= 0:
            return 0.0
        if self.noise is None:
            raise CaptionlessError(
                "this sampler adds noise. Pass a function that returns noise to ReverseProcess as `noise`."
            )
        return std * self.noise()
