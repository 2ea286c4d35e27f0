"""Helpers that several test files of trainings share."""

from __future__ import annotations

import signal
from pathlib import Path

import torch

import encoder_factory
from captionless.checkpoints.model import STATE
from captionless.progress import Silent
from captionless.tensor_files import read_tensors


def save_photos(folder: Path) -> Path:
    """Save twelve pictures in the sub-folders daisy and rose."""
    for i, image in enumerate(encoder_factory.pictures(12)):
        path = folder / ("rose" if i % 2 else "daisy") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


class Remembers(Silent):
    """A ``Progress`` that keeps its remarks."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class StopsAt(Remembers):
    """Presses Ctrl-C once the training has come so far, in thousandths."""

    def __init__(self, thousandths: int) -> None:
        super().__init__()
        self.thousandths = thousandths

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        if task == "Training" and done >= self.thousandths:
            signal.raise_signal(signal.SIGINT)


def state_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that a resume needs: weights, average, moments."""
    return read_tensors(folder / STATE)


def same_state(first: Path, second: Path) -> bool:
    ours, theirs = state_tensors(first), state_tensors(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
