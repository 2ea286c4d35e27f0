"""Train a tiny network on this process's part of each batch, and print the losses as one line of JSON.

Arguments: a folder for the train state, and the number of images to see in all. A state in the folder is resumed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

import tiny
from captionless.checkpoints.model import STATE
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.models.unet import Denoiser
from captionless.training.dataset import Examples
from captionless.training.loop import Callback, loop
from captionless.training.processes import Processes
from captionless.training.state import TrainState, begin_state, restore_state, save_state

CONFIG = TrainConfig(size=8, width=16, batch=8, images=8 * 20, precision="float32", warm_up=64, dropout=0.2, crop=0.6)


class Losses(Callback):
    """Keeps the smoothed loss after each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_step(self, state: TrainState) -> None:
        state.read_loss()
        self.found.append(state.loss)


def main(folder: Path, images: int) -> None:
    torch.set_num_threads(1)
    processes, losses = Processes(Accelerator(cpu=True)), Losses()
    torch.manual_seed(0)
    network = Denoiser(replace(tiny.SHAPE, dropout=CONFIG.dropout, crops=True)).train()
    state = begin_state(network, CONFIG.replace(images=images), CosineSchedule())
    if (folder / STATE).is_file():
        restore_state(folder, state)
    pixels = (256 * tiny.uniform(20, 3, 12, 12)).byte()
    loop(state, Examples(pixels, tiny.unit_vectors(20)), [losses], processes)
    if processes.index == 0:
        save_state(folder, state)
        print(json.dumps(losses.found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
