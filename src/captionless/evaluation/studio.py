"""Where an evaluation paints its pictures and looks at them, and tells how long that will take."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captionless.evaluation.evidence import Listener
from captionless.evaluation.features import Features
from captionless.generator import Generator
from captionless.painting import paint, to_images
from captionless.sampling import Sampling

LOOK = 64
"""Pictures looked at between two reports of progress."""


class Studio:
    """One model, at work for an evaluation.

    Args:
        generator: the model.
        features: what pictures are compared by.
        sampling: how pictures are drawn.
        seed: picture i of each series uses seed + i.
        pictures: how many are going to be painted, for the estimate of time.
        steps: denoising steps of all of them.
        listener: whom to tell.
    """

    def __init__(
        self,
        generator: Generator,
        features: Features,
        sampling: Sampling,
        seed: int,
        pictures: int,
        steps: int,
        listener: Listener,
    ) -> None:
        self.generator, self.features, self.sampling, self.seed = generator, features, sampling, seed
        self.pictures, self.steps, self.listener = pictures, steps, listener
        self.done = 0
        self.started: float | None = None

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
        if self.started is None:
            self.started = time.monotonic()
        before = self.done

        def on_progress(done: int, _: int) -> None:
            self.done = before + done * sampling.steps
            if not before and done <= sampling.batch:
                self._estimate()
            self.listener.progress("Painting", self.done, max(self.steps, self.done))

        seeds = [(self.seed + offset + i) % 2**32 for i in range(len(conditions))]
        return paint(
            self.generator.denoiser,
            self.generator.model.config,
            conditions,
            seeds,
            sampling,
            on_progress=on_progress,
        )

    def look(self, pixels: Tensor, what: str = "Looking at pictures") -> Tensor:
        """Return the features of pictures, uint8 (n, channels, size, size), as float32 (n, f)."""
        found = []
        for start in range(0, len(pixels), LOOK):
            found.append(self.features.encode_images(to_images(pixels[start : start + LOOK])))
            self.listener.progress(what, min(start + LOOK, len(pixels)), len(pixels))
        return torch.cat(found)

    def _estimate(self) -> None:
        assert self.started is not None
        seconds = (time.monotonic() - self.started) * self.steps / self.done
        minutes = seconds / 60
        about = (
            f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute" if minutes > 0.5 else "a few seconds"
        )
        self.listener.say(f"Painting {self.pictures:,} pictures, {self.steps:,} denoising steps in all: {about}.")
