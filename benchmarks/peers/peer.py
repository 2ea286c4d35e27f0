"""What every measured library shares: the request it receives, the meter it reports its steps to, and its answer.

A library's module defines ``train`` and ``sample`` and calls `answer`. It runs in an environment of its own, so
this module needs no more than PyTorch and Pillow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import environment, peak_memory

WARM_UP = 1
"""Steps that are not counted: the first one allocates memory and chooses algorithms."""
LEAST_STEPS = 2
"""Steps that are counted even if they take longer than the requested seconds."""


@dataclass(frozen=True)
class Request:
    """What a library is asked to do, read from the JSON text on the command line.

    Args:
        action: ``train`` or ``sample``.
        folder: the training images, one sub-folder per class.
        work: a new folder for the library's files.
        size: side of the images in pixels.
        batch: images per step.
        network: the library's own settings of the network, and of training where the library names them.
        precision: ``float32`` or ``bf16``.
        seed: seed of all random numbers.
        seconds: length of the training, without the first step.
        every: seconds between snapshots of the averaged weights; 0 for none.
        snapshot: the snapshot to sample from.
        images: number of images to sample.
        sampling: the library's own settings of sampling.
    """

    action: str
    folder: str
    work: str
    size: int
    batch: int = 16
    network: dict[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    seed: int = 0
    seconds: float = 10.0
    every: float = 0.0
    snapshot: str = ""
    images: int = 0
    sampling: dict[str, Any] = field(default_factory=dict)


class Finished(Exception):  # noqa: N818  # no error: it ends a library's own training loop
    """Raised inside a training loop when enough has been measured."""


class Meter:
    """Note when each training step ended, and take snapshots.

    Args:
        request: says how long to train, and how often to take a snapshot.
        save: writes the averaged weights to a path, if there are any yet.
    """

    def __init__(self, request: Request, save: Callable[[Path], object]) -> None:
        self.request, self.save = request, save
        self.steps: list[tuple[int, float]] = []  # images seen, seconds since the process started
        self.snapshots: list[tuple[float, str]] = []  # seconds since the process started, name
        torch.manual_seed(request.seed)

    def step(self, images: int | None = None) -> bool:
        """Note the end of a step after which ``images`` were seen, and return whether enough has been measured."""
        now, every = since_start(), self.request.every
        self.steps.append((images or (len(self.steps) + 1) * self.request.batch, now))
        first = self.steps[min(WARM_UP, len(self.steps)) - 1][1]
        done = len(self.steps) >= WARM_UP + LEAST_STEPS and now - first >= self.request.seconds
        if every and (done or now - (self.snapshots[-1][0] if self.snapshots else 0.0) >= every):
            path = Path(self.request.work) / f"snapshot-{len(self.snapshots):03}"
            self.save(path)
            if path.exists():  # a library that writes checkpoints of its own may not have written one yet
                self.snapshots.append((now, path.name))
        return done

    def figures(self) -> dict[str, Any]:
        """Return the throughput between the end of the warm-up and the last step."""
        (before, started), (after, ended) = self.steps[WARM_UP - 1], self.steps[-1]
        return {
            "images": after - before,
            "steps": len(self.steps) - WARM_UP,
            "images_per_second": (after - before) / (ended - started),
            "first_step": self.steps[0][1],
            "snapshots": self.snapshots,
        }


def answer(train: Callable[[Request], tuple[Meter, dict[str, int]]], sample: Callable[[Request], np.ndarray]) -> None:
    """Carry out the request on the command line and write its figures to ``figures.json`` in its ``work`` folder.

    Args:
        train: trains, and returns the meter and the result of `count`.
        sample: returns images, uint8 (n, size, size, channels); they are written to ``images.npy``.
    """
    request = Request(**json.loads(sys.argv[1]))
    work = Path(request.work)
    work.mkdir(parents=True)
    torch.manual_seed(request.seed)
    figures: dict[str, Any] = {}
    if request.action == "train":
        meter, counts = train(request)
        figures = meter.figures() | counts
        figures["flops_per_second"] = counts["train_flops"] * figures["images_per_second"]
        figures["share_of_peak"] = figures["flops_per_second"] / matmul_rate(request.precision)
    else:
        started = time.perf_counter()
        np.save(work / "images.npy", sample(request))
        figures = {"images": request.images, "seconds": time.perf_counter() - started}
    found = {"figures": figures, "request": asdict(request), "peak_memory": peak_memory(), "where": environment()}
    (work / "figures.json").write_text(json.dumps(found), encoding="utf-8")


def count(network: nn.Module, *inputs: Tensor) -> dict[str, int]:
    """Return the number of weights, and the FLOPs of one image forwards and in training (forwards and backwards).

    FLOPs are those of convolutions, matrix products and attention; a multiply-add counts as two.
    """
    network = network.float().train().requires_grad_(True)
    with FlopCounterMode(display=False) as forward:
        output = network(*inputs)
    with FlopCounterMode(display=False) as backward:
        getattr(output, "sample", output).sum().backward()
    weights = sum(p.numel() for p in network.parameters())
    return {
        "weights": weights,
        "flops": forward.get_total_flops(),
        "train_flops": forward.get_total_flops() + backward.get_total_flops(),
    }


def matmul_rate(precision: str, n: int = 1536) -> float:
    """Return the FLOPs per second of a large matrix product on this machine, the best of five."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.ones(n, n, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = 0.0
    for _ in range(6):
        started = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = max(best, 2 * n**3 / (time.perf_counter() - started))
    return best


def since_start() -> float:
    """Return the seconds since this process was started by `benchmarks.record.run`."""
    return time.time() - float(os.environ["PROCESS_STARTED"])


def image_paths(folder: str | Path) -> list[Path]:
    """Return the images of a folder and its sub-folders, in alphabetical order."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def read_square(path: Path, size: int) -> Tensor:
    """Return the centre square of an image, float32 (3, size, size) in [0, 1]: shorter side resized, then cropped."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    scale = size / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    left, top = (wide - size) // 2, (high - size) // 2
    image = image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def to_uint8(images: Tensor) -> np.ndarray:
    """Convert images (n, channels, size, size) in [0, 1] to uint8 (n, size, size, channels)."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
