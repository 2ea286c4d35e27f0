"""Compare training throughput on a GPU with that of other libraries, at about equal weights.

    python -m benchmarks.gpu_peers

All train in bf16 at 64 px, on random images that lie on the device, so that no library reads files: captionless with
the network of ``benchmarks.gpu_step``, diffusers with the steps of its script for unconditional generation, and
denoising-diffusion-pytorch with its ``Trainer``. The channels of both others are multiples of 16, and chosen so that
they have no more weights than ours. Runs take turns. Appends to benchmarks/results/gpu_peers.jsonl. All libraries must
be installed in one environment, with torchvision.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from itertools import repeat
from pathlib import Path

import torch

from benchmarks.cases import DDP, DIFFUSERS, OURS
from benchmarks.gpu_step import SHAPE, random_run
from benchmarks.peers.peer import Finished, count, matmul_rate
from benchmarks.record import RESULTS, measured
from captionless.config.training import TrainConfig
from captionless.device import default_device
from captionless.models.unet import Denoiser

SIZE = 64
BATCHES = (64, 256)
WARM_UP, STEPS = (30, 1.5), (60, 2.5)
"""Largest number of steps and of seconds of the warm-up, and of a measurement."""
REPEATS = 2
CHANNELS, GROUPS = (48, 48, 96, 96, 208, 208), 16
"""The network of diffusers: 18.1 million weights."""
UNET = {"dim": 48, "dim_mults": (1, 2, 4, 7)}
"""The network of denoising-diffusion-pytorch: 17.3 million weights."""

Run = Callable[[Callable[[], bool]], None]
"""Trains, and calls a function after every step, until that returns True."""


class Limit:
    """Tells after each step whether enough steps or seconds have passed."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.steps, self.done, self.ends = steps, 0, time.perf_counter() + seconds

    def __call__(self) -> bool:
        """Count a step."""
        self.done += 1
        return self.done >= self.steps or time.perf_counter() >= self.ends


def main() -> None:
    """Measure every library in turn, ``REPEATS`` times at each batch size."""
    if not torch.cuda.is_available():
        raise SystemExit("This machine has no CUDA device.")
    rate, libraries = matmul_rate("bf16", 8192), {OURS: ours, DIFFUSERS: diffusers, DDP: ddp}
    for batch in BATCHES:
        trainings = {name: begin(batch) for name, begin in libraries.items()}
        for number in range(REPEATS):
            for name, (run, counts) in trainings.items():
                case = {"name": name, "size": SIZE, "batch": batch, "precision": "bf16"}
                with measured(RESULTS / "gpu_peers.jsonl", "gpu_peers", number, **case) as figures:
                    run(Limit(*WARM_UP))
                    figures |= counts | timed(run, batch)
                    figures["flops_per_second"] = counts["train_flops"] * figures["images_per_second"]
                    figures["share_of_peak"] = figures["flops_per_second"] / rate
                print(case, figures, flush=True)
        trainings.clear()
        torch.cuda.empty_cache()


def timed(run: Run, batch: int) -> dict[str, float]:
    """Return the images per second of a training, and its milliseconds per step."""
    limit, _ = Limit(*STEPS), torch.cuda.synchronize()
    started = time.perf_counter()
    run(limit)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return {"images_per_second": limit.done * batch / seconds, "step_ms": 1000 * seconds / limit.done}


def ours(batch: int) -> tuple[Run, dict[str, int]]:
    """Return the training of captionless, and the result of `count`."""
    step = random_run(TrainConfig(size=SIZE, batch=batch, images=10**9), default_device())

    def run(enough: Callable[[], bool]) -> None:
        step()
        while not enough():
            step()

    return run, count(Denoiser(SHAPE), *_image(), torch.zeros(1, SHAPE.condition_width))


def diffusers(batch: int) -> tuple[Run, dict[str, int]]:
    """Return the training of diffusers, and the result of `count`."""
    from benchmarks.peers.diffusers_unconditional import Training, network

    training = Training(network(SIZE, CHANNELS, GROUPS).train(), "bf16")
    images = 2 * torch.rand(batch, 3, SIZE, SIZE, device=default_device()) - 1

    def run(enough: Callable[[], bool]) -> None:
        training.step(images)
        while not enough():
            training.step(images)

    return run, count(network(SIZE, CHANNELS, GROUPS), *_image())


def ddp(batch: int) -> tuple[Run, dict[str, int]]:
    """Return the training of denoising-diffusion-pytorch, and the result of `count`."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

    with tempfile.TemporaryDirectory() as folder:
        for number in range(100):  # the least that the trainer accepts; they are never read
            Path(folder, f"{number}.png").touch()
        diffusion = GaussianDiffusion(Unet(**UNET), image_size=SIZE)
        settings = {"train_batch_size": batch, "amp": True, "mixed_precision_type": "bf16", "calculate_fid": False}
        endless = {"train_num_steps": sys.maxsize, "save_and_sample_every": sys.maxsize}
        trainer = Trainer(diffusion, folder, results_folder=folder, **settings, **endless)
    trainer.dl = repeat(torch.rand(batch, 3, SIZE, SIZE, device=default_device()))
    update = trainer.ema.update

    def run(enough: Callable[[], bool]) -> None:
        def update_and_count() -> None:  # the last thing in a step
            update()
            if enough():
                raise Finished

        trainer.ema.update = update_and_count
        try:
            with redirect_stderr(io.StringIO()):  # the progress bar
                trainer.train()
        except Finished:
            pass

    return run, count(Unet(**UNET), *_image())


def _image() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1)


if __name__ == "__main__":
    main()
