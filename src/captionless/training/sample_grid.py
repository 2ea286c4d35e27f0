"""Draw sample grids during training, from prompts, classes or image vectors."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.conditioning.bridge import BridgeData, to_condition
from captionless.conditioning.classes import one_hot
from captionless.conditioning.subject import folder_words
from captionless.config.sampling import SamplingConfig
from captionless.files import atomic_write
from captionless.generation.grids import sample_grid
from captionless.generation.sample import Stage, sample_batches, to_images
from captionless.latents.space import PIXELS, Space
from captionless.models.unet import Denoiser
from captionless.progress import Progress
from captionless.training.dataset import Dataset
from captionless.training.loop import Callback
from captionless.training.start import SAMPLES
from captionless.training.state import TrainState

COLUMNS, ROWS, IMAGES = 6, 16, 48
"""Maximum columns and rows of a grid, and approximate number of images; many rows leave fewer columns."""
SHARE = 0.05
"""Maximum share of the time spent on drawing; short or slow runs draw fewer grids."""


@dataclass(frozen=True)
class GridRows:
    """The rows of every sample grid of a training run."""

    labels: list[str]  # drawn next to each row
    conditions: Tensor  # one per row, (n, d)
    originals: list[Image.Image] = field(default_factory=list)  # shown before each row, if any
    space: Space = PIXELS  # what is denoised


def choose_grid_rows(dataset: Dataset, prompts: Sequence[str], bridge_data: BridgeData | None = None) -> GridRows:
    """Return the rows of the sample grids.

    A class-conditional model shows its classes. A text-conditional model shows the prompts or, without any, the names
    of the sub-folders or, without those, the vectors of held-out (else training) images, next to the images themselves.
    Text vectors are converted to conditions with ``bridge_data``, by default the training images' vectors.
    """
    if dataset.encoder is None:
        labels = list(dataset.classes[:ROWS])
        return GridRows(labels, one_hot(labels, dataset.classes), space=dataset.space)
    words = folder_words(dataset.train.names)[:ROWS]
    labels = list(prompts) or [f"a photo of a {word}" for word in words if len(words) > 1]
    if labels:
        bridge_data = bridge_data or BridgeData(dataset.train.conditions)
        conditions = to_condition(dataset.encoder.encode_texts(labels), bridge_data)
        return GridRows(labels, conditions, space=dataset.space)
    shown = dataset.held_out if dataset.held_out.names else dataset.train
    few = ROWS // 2
    return GridRows(list(shown.names[:few]), shown.conditions[:few], to_images(shown.pixels[:few]), dataset.space)


class SampleGrids(Callback):
    """Draw a grid at even intervals, always with the same conditions and noise, so that grids can be compared.

    Grids are written to ``samples/`` in the model folder and named by the number of images seen. The stages in ``base``
    (the base model of a super-resolution stage) sample before the model.
    """

    def __init__(self, out: Path, config: ModelConfig, base: Sequence[Stage], rows: GridRows, progress: Progress):
        self.out, self.config, self.base, self.rows, self.progress = out, config, base, rows, progress
        self.passed = 0
        self.not_before = 0.0

    def on_start(self, state: TrainState) -> None:
        """Skip the grids that were due before a resumed run's checkpoint."""
        self.passed = math.floor(state.progress * state.config.sample_grids)

    def on_step(self, state: TrainState) -> None:
        """Draw a grid if training has passed the next of the evenly spaced milestones."""
        passed = math.floor(state.progress * state.config.sample_grids)
        due = passed > self.passed and (state.finished or time.monotonic() >= self.not_before)
        self.passed = passed
        if not due:
            return
        started = time.monotonic()
        target = self.out / SAMPLES / f"{state.images_seen:09d}.png"
        grid = self.draw(state.chosen if state.finished else state.average)
        with atomic_write(target) as path:
            grid.save(path, format="PNG")
        now = time.monotonic()
        self.not_before = now + (now - started) / SHARE
        self.progress.say(f"Sample grid: {target}")

    def draw(self, denoiser: Denoiser) -> Image.Image:
        """Return a sample grid generated with ``denoiser``'s current weights."""
        rows, device = self.rows, next(denoiser.parameters()).device
        columns = max(2, min(COLUMNS, IMAGES // len(rows.labels)))
        seeds = [seed for _ in rows.labels for seed in range(columns)]
        conditions = rows.conditions.repeat_interleave(columns, dim=0).to(device)
        stages = [*self.base, Stage(denoiser, self.config, rows.space)]
        config, taken = SamplingConfig(precision="float32"), count(1)
        steps = config.steps + len(self.base) * config.upsampling().steps
        batches = math.ceil(len(seeds) / config.batch)

        def report(_: object) -> None:
            self.progress.advance("Drawing the sample grid", next(taken), batches * steps)

        images = to_images(torch.cat(list(sample_batches(stages, conditions, seeds, config, on_step=report))))
        cells = [images[i : i + columns] for i in range(0, len(images), columns)]
        if rows.originals:
            cells = [[original, *row] for original, row in zip(rows.originals, cells, strict=True)]
        return sample_grid(cells, rows.labels, cell=max(64, self.config.size))
