"""Measure sampling on a GPU: seconds from condition vectors to pixels, with captured network calls and without.

    python -m benchmarks.gpu_sample

The bundled model makes 1, 16 and 256 images at once, of 64 px (its base model) and of 128 px (with super-resolution),
with the default settings. Each case begins without graphs: `first_seconds` is the time of the first batch, `gpu_gib`
the most memory that PyTorch reserved until the calls were warm, graphs included, and `seconds` the median once they
are. Appends to benchmarks/results/gpu_sample.jsonl and prints the profile of 16 images of 64 px.
"""

from __future__ import annotations

import time
from itertools import product
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import captionless
from benchmarks.record import RESULTS, measured
from captionless.config.sampling import SamplingConfig
from captionless.generation.sample import Stage, sample
from captionless.models.capture import EAGER

SIZES, COUNTS = (64, 128), (1, 16, 256)
REPEATS = 7


def main() -> None:
    """Measure every size and number of images in turn."""
    if not torch.cuda.is_available():
        raise SystemExit("This machine has no CUDA device.")
    stages = captionless.load("bundled", device="cuda").stages
    for size, count in product(SIZES, COUNTS):
        compare(stages, size, count)
    captured = _copies(stages)
    for _ in range(EAGER + 2):
        sampled(captured, 16, 64)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        sampled(captured, 16, 64)
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=15, max_name_column_width=60))


def compare(stages: list[Stage], size: int, count: int) -> None:
    """Measure both ways of calling the networks, first each by itself until it is warm, then in turn."""
    ways = {"eager": _copies(stages, eager=True), "captured": _copies(stages)}
    figures: dict[str, dict[str, Any]] = {}
    for way, several in ways.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        first, _ = sampled(several, count, size)
        for _ in range(EAGER + 1):
            sampled(several, count, size)
        figures[way] = {"first_seconds": first, "gpu_gib": torch.cuda.max_memory_reserved() / 2**30}
    times: dict[str, list[float]] = {way: [] for way in ways}
    pixels: dict[str, Tensor] = {}
    for _ in range(REPEATS):
        for way, several in ways.items():
            elapsed, pixels[way] = sampled(several, count, size)
            times[way].append(elapsed)
    difference = int((pixels["captured"].int() - pixels["eager"].int()).abs().max())
    for way, each in times.items():
        case: dict[str, Any] = {"model": "bundled", "size": size, "images": count, "calls": way}
        with measured(RESULTS / "gpu_sample.jsonl", "gpu_sample", **case) as line:
            line |= {"seconds": median(each), "images_per_second": count / median(each), "all_seconds": each}
            line |= figures[way] | {"largest_difference": difference}
        print(case, line, flush=True)


def sampled(stages: list[Stage], count: int, size: int) -> tuple[float, Tensor]:
    """Return the seconds of sampling a number of images at once, and the images on the CPU."""
    width = stages[0].config.condition_width
    conditions = torch.nn.functional.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(0)))
    started = time.perf_counter()
    pixels = sample(stages, conditions, range(count), SamplingConfig(size=size, batch=count))
    return time.perf_counter() - started, pixels


def _copies(stages: list[Stage], eager: bool = False) -> list[Stage]:
    """Return stages of the same networks without any graphs; ``eager`` ones never capture."""
    copies = [Stage(stage.denoiser, stage.config, stage.space) for stage in stages]
    for stage in copies if eager else ():
        vars(stage)["network"] = stage.denoiser  # instead of the captured one, which is made when it is first needed
    return copies


if __name__ == "__main__":
    main()
