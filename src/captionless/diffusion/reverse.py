"""One run of the reverse process: what a sampler is handed, so that its body is only its maths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from captionless.diffusion.guidance import Denoise
from captionless.diffusion.schedules import Schedule

Callback = Callable[[int, float, Tensor, Tensor], None]
"""Sees every step once: ``(step, t, x, x0)``, the state ``x`` that the step starts from and what was predicted."""


@dataclass(frozen=True)
class Level:
    """A noise level, ``x = alpha * x0 + sigma * eps``, and the time at which the schedule has it.

    ``alpha`` is 0 for pure noise, ``sigma`` for the clean picture. Their squares need not add up to 1.
    """

    t: Tensor
    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """``lambda = log(alpha / sigma)``, half the log-SNR; minus infinity for pure noise, infinity for no noise."""
        if self.alpha == 0:
            return -math.inf
        return math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


@dataclass(frozen=True)
class Reverse:
    """One run from noise to pictures.

    Args:
        denoise: predicts the clean pictures ``x0`` of a state and its time.
        schedule: the noise levels of the times.
        times: float64, strictly falling from that of the initial state, usually to exactly 0.
        noise: gives fresh standard normal noise of the shape of the pictures, each picture's from its own generator.
        callback: sees every step.
        pure: the initial state is noise alone, whatever trace of a picture (``alpha``) the schedule has at that time.
            Heun's method, from an even grid, would otherwise blow that trace up to a picture that was never there.
    """

    denoise: Denoise
    schedule: Schedule
    times: Tensor
    noise: Callable[[], Tensor]
    callback: Callback | None = None
    pure: bool = False

    def steps(self) -> Iterator[tuple[int, Level, Level]]:
        """Yield the number of each step, from 0, and the levels ``t`` and ``s`` that it leads from and to."""
        for step, (t, s) in enumerate(itertools.pairwise(self.level(t) for t in self.times)):
            yield step, t, s

    def level(self, t: Tensor) -> Level:
        """Return the noise level at a time.

        Time 0 is the clean picture, whatever trace of noise a schedule leaves there: hence the last step of every
        sampler ends at its own prediction, and none needs a case for it.
        """
        if t == 0:
            return Level(t, 1.0, 0.0)
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Level(t, 0.0 if self.pure and t == self.times[0] else float(alpha), float(sigma))

    def predict(self, step: int, x: Tensor, t: Level) -> Tensor:
        """Return the clean pictures predicted from the state that a step starts from, and report them."""
        x0 = self.denoise(x, t.t)
        self.report(step, x, t, x0)
        return x0

    def report(self, step: int, x: Tensor, t: Level, x0: Tensor) -> None:
        """Tell the callback of a step."""
        if self.callback:
            self.callback(step, float(t.t), x, x0)

    def draw(self, std: float) -> Tensor | float:
        """Return fresh noise of a standard deviation; where that is 0 none is drawn."""
        return std * self.noise() if std > 0 else 0.0
