"""Measure sampling on a GPU: seconds from condition vectors to pixels, with captured network calls and without.

    python -m benchmarks.gpu_sample

The bundled model makes 1, 16 and 256 images at once, of 64 px (its base model) and of 128 px (with super-resolution),
with the default settings. Appends to benchmarks/results/gpu_sample.jsonl and prints the profile of 16 images of 64 px.
"""

from __future__ import annotations

import time
from itertools import product
from statistics import median

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
    """Measure every size and number of images in turn; both ways of calling the network alternate."""
    if not torch.cuda.is_available():
        raise SystemExit("This machine has no CUDA device.")
    stages = captionless.load("bundled", device="cuda").stages
    ways = {"captured": stages, "eager": _eager(stages)}
    for size, count in product(SIZES, COUNTS):
        times: dict[str, list[float]] = {way: [] for way in ways}
        pixels: dict[str, Tensor] = {}
        for repeat in range(EAGER + 1 + REPEATS):
            for way, several in ways.items():
                elapsed, pixels[way] = sampled(several, count, size)
                times[way] += [elapsed] if repeat > EAGER else []
        difference = (pixels["captured"].int() - pixels["eager"].int()).abs()
        for way, each in times.items():
            case = {"model": "bundled", "size": size, "images": count, "calls": way}
            with measured(RESULTS / "gpu_sample.jsonl", "gpu_sample", **case) as figures:
                figures |= {"seconds": median(each), "images_per_second": count / median(each), "all_seconds": each}
                figures |= {"largest_difference": int(difference.max())}
            print(case, figures, flush=True)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        sampled(stages, 16, 64)
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=15, max_name_column_width=60))


def sampled(stages: list[Stage], count: int, size: int) -> tuple[float, Tensor]:
    """Return the seconds of sampling a number of images at once, and the images on the CPU."""
    width = stages[0].config.condition_width
    conditions = torch.nn.functional.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(0)))
    started = time.perf_counter()
    pixels = sample(stages, conditions, range(count), SamplingConfig(size=size, batch=count))
    return time.perf_counter() - started, pixels


def _eager(stages: list[Stage]) -> list[Stage]:
    copies = [Stage(stage.denoiser, stage.config) for stage in stages]
    for stage in copies:
        vars(stage)["network"] = stage.denoiser  # instead of the captured one, which is made when it is first needed
    return copies


if __name__ == "__main__":
    main()
