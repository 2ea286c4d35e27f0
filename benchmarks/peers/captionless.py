"""captionless: ``captionless.train`` and ``captionless.load``, as anyone would call them.

It trains conditionally, on vectors of the bundled encoder, while the other libraries learn the images alone.
"""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import numpy as np
import torch

import captionless
from benchmarks.peers.peer import Meter, Request, answer, count
from captionless.checkpoints.model import load_model
from captionless.progress import Silent

SEEN = re.compile(r"([\d,]+) images seen")
ENDLESS = 10**12
"""A number of images that is never reached: the meter ends the training."""


class Reports(Silent):
    """Hand the progress of training to a meter; when it has seen enough, stop as Ctrl-C would."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Note the end of a training step."""
        if (seen := SEEN.match(detail)) and self.meter.step(int(seen[1].replace(",", ""))):
            signal.raise_signal(signal.SIGINT)


def train(request: Request) -> tuple[Meter, dict[str, int]]:
    """Train until the meter has seen enough; a snapshot is a copy of the model folder."""
    out = Path(request.work) / "model"

    def save(path: Path) -> None:
        if (out / "config.json").is_file():  # the latest checkpoint
            shutil.copytree(out, path)

    meter = Meter(request, save)
    # Without a length, nothing can be planned from it: these are the values without a plan.
    settings = {"images": ENDLESS, "warm_up": 6_400, "dropout": 0.0, "sample_grids": 0, "encoder": "bundled"}
    settings |= request.network
    if request.every:
        settings["checkpoint_minutes"] = request.every / 120
    try:
        captionless.train(
            request.folder,
            out,
            progress=Reports(meter),
            size=request.size,
            batch=request.batch,
            seed=request.seed,
            precision=request.precision,
            **settings,
        )
    except KeyboardInterrupt:
        model = load_model(out)
    config = model.denoiser.config
    inputs = torch.zeros(1, config.channels, request.size, request.size), torch.zeros(1)
    return meter, count(model.denoiser, *inputs, torch.zeros(1, config.condition_width))


def sample(request: Request) -> np.ndarray:
    """Sample from a snapshot, equally often for the name of every class: image i shows class ``i % classes``."""
    names = class_names(Path(request.folder))
    each = -(-request.images // len(names))
    generator = captionless.load(request.snapshot)
    found = generator.generate(names, n=each, seed=request.seed, progress=False, **request.sampling)
    images = np.stack([np.asarray(one.image) for one in found]).reshape(len(names), each, *np.shape(found[0].image))
    return images.swapaxes(0, 1).reshape(-1, *images.shape[2:])[: request.images]


def class_names(folder: Path) -> list[str]:
    """Return the names of the sub-folders, which are the prompts."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


if __name__ == "__main__":
    answer(train, sample)
