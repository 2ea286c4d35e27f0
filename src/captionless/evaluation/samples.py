"""Where pictures are painted to be measured, and looked at, and it is told how long that will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captionless.config.sampling import SamplingConfig
from captionless.encoders.features import Features
from captionless.evaluation.data import Listener
from captionless.evaluation.report.format import duration
from captionless.generation.generator import Generator
from captionless.generation.sample import sample, to_images
from captionless.progress import Progress, Silent

LOOK = 64
"""Pictures looked at between two reports of progress."""
REHEARSED = 8
"""Pictures that tell how long painting takes."""


class _Progress(Silent):
    """Hands the number of images done to a function."""

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        self.on_progress = on_progress

    def advance(self, task: str, done: int, total: int) -> None:
        """Report the images done."""
        self.on_progress(done)


class Easel:
    """One model, painting to be measured.

    Args:
        generator: the model.
        sampling: how pictures are drawn.
        seed: picture i of each series uses seed + i.
        pictures: how many are going to be painted, for the estimate of time.
        steps: denoising steps of all of them.
        listener: whom to tell.
    """

    def __init__(
        self,
        generator: Generator,
        sampling: SamplingConfig,
        seed: int,
        pictures: int,
        steps: int,
        listener: Listener,
    ) -> None:
        self.generator, self.sampling, self.seed = generator, sampling, seed
        self.pictures, self.steps, self.listener = pictures, steps, listener
        self.done = 0
        self.told = False

    def seeds(self, n: int, offset: int = 0) -> list[int]:
        """Return the seeds of a series of ``n`` pictures."""
        return [(self.seed + offset + i) % 2**32 for i in range(n)]

    def paint(self, conditions: Tensor, offset: int = 0, **changes: Any) -> Tensor:
        """Paint one picture of each condition.

        Args:
            conditions: (n, d).
            offset: added to the seeds, so that a series does not repeat another one's noise.
            changes: of the sampling.

        Returns:
            uint8 (n, channels, size, size).
        """
        sampling = replace(self.sampling, **changes)
        started, before = time.monotonic(), self.done

        def on_progress(done: int) -> None:
            self.done = before + done * self.generator.steps(sampling)
            if not self.told:
                self._tell(time.monotonic() - started, self.done)
            self.listener.progress("Painting", self.done, max(self.steps, self.done))

        return self._sample(conditions, self.seeds(len(conditions), offset), sampling, _Progress(on_progress))

    def rehearse(self, conditions: Tensor) -> None:
        """Tell how long all will take before other work is begun, by a few pictures that are thrown away.

        Args:
            conditions: some that could be asked for, (n, d).
        """
        few = conditions[:REHEARSED]
        self._sample(few[:1], self.seeds(1), self.sampling)  # the first time, kernels are still being chosen
        started = time.monotonic()
        self._sample(few, self.seeds(len(few)), self.sampling)
        self._tell(time.monotonic() - started, len(few) * self.generator.steps(self.sampling))

    def _sample(
        self, conditions: Tensor, seeds: Sequence[int], sampling: SamplingConfig, progress: Progress | None = None
    ) -> Tensor:
        return sample(self.generator.stages, conditions, seeds, sampling, progress=progress)

    def _tell(self, seconds: float, done: int) -> None:
        """Tell how long all painting will take if ``done`` steps took so many seconds."""
        self.told = True
        about = duration(seconds * self.steps / done + self.besides())
        self.listener.say(f"Painting {self.pictures:,} pictures, {self.steps:,} denoising steps in all: {about}.")

    def besides(self) -> float:
        """Return the seconds that will pass with other things than painting."""
        return 0.0


class EvaluationSampler(Easel):
    """One model, at work for an evaluation: painting, and comparing by features.

    Args:
        generator: the model.
        features: what pictures are compared by.
        sampling: how pictures are drawn.
        seed: picture i of each series uses seed + i.
        pictures: how many are going to be painted, for the estimate of time.
        steps: denoising steps of all of them.
        listener: whom to tell.
        looks: how many pictures are going to be looked at, for the estimate.
    """

    def __init__(
        self,
        generator: Generator,
        features: Features,
        sampling: SamplingConfig,
        seed: int,
        pictures: int,
        steps: int,
        listener: Listener,
        looks: int = 0,
    ) -> None:
        super().__init__(generator, sampling, seed, pictures, steps, listener)
        self.features, self.looks = features, looks
        self.looked, self.looking = 0, 0.0

    def besides(self) -> float:
        """Return the seconds that looking at pictures will take, as far as it is known how long one takes."""
        return max(0, self.looks - self.looked) * self.looking / max(1, self.looked)

    def look(self, pixels: Tensor, what: str = "Looking at pictures") -> Tensor:
        """Return the features of pictures, uint8 (n, channels, size, size), as float32 (n, f)."""
        found, started = [], time.monotonic()
        for start in range(0, len(pixels), LOOK):
            found.append(self.features.encode_images(to_images(pixels[start : start + LOOK])))
            self.listener.progress(what, min(start + LOOK, len(pixels)), len(pixels))
        self.looked, self.looking = self.looked + len(pixels), self.looking + time.monotonic() - started
        return torch.cat(found)
