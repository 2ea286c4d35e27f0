"""Listeners that several test files of trainings share."""

from __future__ import annotations

import signal

from captionless.config.training import TrainConfig
from captionless.training import loop as trainer
from captionless.training.run import Silent


class StopsAt(Silent):
    """Presses Ctrl-C after so many pictures."""

    def __init__(self, images: int) -> None:
        self.images = images

    def step(self, training: trainer.Training, settings: TrainConfig) -> None:
        if training.counter.images >= self.images:
            signal.raise_signal(signal.SIGINT)


class Remembers(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)
