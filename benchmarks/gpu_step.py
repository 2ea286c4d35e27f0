"""Measure training steps on a GPU: images a second, host time a step, and the operations that take the time.

    python -m benchmarks.gpu_step

The network has 18.5 M weights: patch 2, channels 64 to 256, attention at all levels but the finest, 4 tokens. Appends
to benchmarks/results/gpu_step.jsonl and prints the profile.
"""

from __future__ import annotations

import time
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.record import RESULTS, measured
from captionless.config.training import TrainConfig
from captionless.device import to_device
from captionless.diffusion.schedules import CosineSchedule
from captionless.models.capture import EAGER
from captionless.models.unet import Denoiser, DenoiserConfig
from captionless.training.dataset import Examples
from captionless.training.state import begin_state
from captionless.training.step import TrainStep

SHAPE = DenoiserConfig(patch=2, multipliers=(1, 2, 3, 4), attention=(1, 2, 3), tokens=4, input_skip=True)
BATCHES = (64, 256, 512)
STEPS = 200
"""Steps to time; they follow the capture."""


def main() -> None:
    """Measure each batch size, then profile the last."""
    if not torch.cuda.is_available():
        raise SystemExit("This machine has no CUDA device.")
    device = torch.device("cuda", torch.cuda.current_device())
    for batch in BATCHES:
        config = TrainConfig(size=64, batch=batch, images=10**9)
        step = random_run(config, device)
        for _ in range(EAGER + 5):
            step()
        settings = {"device": torch.cuda.get_device_name(device), "precision": step.precision, "batch": batch}
        with measured(
            RESULTS / "gpu_step.jsonl", "gpu_step", seed=config.seed, size=config.size, **settings
        ) as figures:
            figures |= timed(step)
        print(batch, figures)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        timed(step, 5)
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=30, max_name_column_width=60))


def random_run(config: TrainConfig, device: torch.device) -> TrainStep:
    """Return the training step of a new network on random images."""
    pixels = torch.randint(256, (config.batch, 3, config.size, config.size), dtype=torch.uint8)
    conditions = torch.nn.functional.normalize(torch.randn(config.batch, SHAPE.condition_width), dim=1)
    state = begin_state(to_device(Denoiser(SHAPE).train(), device), config, CosineSchedule())
    return TrainStep(state, Examples(pixels, conditions), say=print)


def timed(step: TrainStep, steps: int = STEPS) -> dict[str, float]:
    """Return images a second, the milliseconds of a step, and those that the host takes to launch it."""
    torch.cuda.reset_peak_memory_stats()
    idle = []
    for _ in range(20):  # a step's launch, while the device waits for it
        torch.cuda.synchronize()
        started = time.perf_counter()
        step()
        idle.append(time.perf_counter() - started)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    whole = time.perf_counter() - started
    return {
        "images_per_second": steps * step.state.config.batch / whole,
        "step_ms": 1000 * whole / steps,
        "host_ms": 1000 * median(idle),
        "gpu_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


if __name__ == "__main__":
    main()
