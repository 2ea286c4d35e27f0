"""Sampling: seconds an image against quality, for several samplers and numbers of steps, and the course's recipe.

Quality is the KID to the photographs in ``--data``. The bundled model was trained on those in ``examples/flowers``,
among others. The course's recipe is 150 ancestral steps of the course's network: give a model trained with
``preset="course"`` as ``--course``. Without one, a network with random weights is timed, and no quality is stated.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import captionless
from benchmarks.cases import COURSE_SAMPLING
from benchmarks.judge import Judge
from benchmarks.peers.captionless import class_names
from benchmarks.peers.peer import count
from benchmarks.record import RESULTS, ROOT, measured, read
from captionless.models.unet import DenoiserConfig

OUT = RESULTS / "sample.jsonl"

GRID = {
    "dpmpp-2m": (4, 8, 15, 30),
    "euler": (15,),
    "ddim": (15,),
    "ddpm": (15, 50),
}
"""Samplers and numbers of steps; dpmpp-2m with 15 steps is the default."""
SIZE = 64
"""Side of the bundled model's images: those of its base model, without super-resolution."""


def main() -> None:
    """Measure every sampler and number of steps once in turn, ``--repeats`` times with other seeds."""
    options = _options()
    generator, judge = captionless.load("bundled"), Judge(options.data, SIZE)
    grid = {"dpmpp-2m": (2,)} if options.smoke else GRID
    for seed in range(options.repeats):
        for sampler, several in grid.items():
            for steps in several:
                case = {"model": "bundled", "size": SIZE, "sampler": sampler, "steps": steps, "images": options.images}
                pareto_point(generator, judge, case, options.data, seed)
        with tempfile.TemporaryDirectory() as folder:
            course = captionless.load(options.course or _untrained_course(options.data, Path(folder)))
            size = course.model.config.size
            case = {"model": "course", "size": size, **COURSE_SAMPLING, "images": options.images}
            if not options.course:
                case |= {"model": "course, untrained", "images": 2}
            if options.smoke:
                case["steps"] = 2
            pareto_point(course, Judge(options.data, size) if options.course else None, case, options.data, seed)


def pareto_point(
    generator: captionless.Generator, judge: Judge | None, case: dict[str, Any], data: Path, seed: int
) -> None:
    """Sample once, with the default guidance, and write the cost of an image and the KID of all.

    The cost is stated in seconds, in evaluations of the network (a guided step needs two, in one call) and in FLOPs.
    """
    if any((one["benchmark"], one["case"], one["seed"]) == ("sample", case, seed) for one in read(OUT)):
        return
    names, network = class_names(data)[: case["images"]], generator.stages[0].denoiser
    counts = count(copy.deepcopy(network), *_inputs(network.config, case["size"]))
    settings = {name: case[name] for name in ("sampler", "steps", "size")}
    generator.generate(names, progress=False, **settings | {"steps": 2})  # allocates memory, loads the encoder
    rows: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    with measured(OUT, "sample", seed, **case) as figures:
        started = time.perf_counter()
        found = generator.generate(names, n=-(-case["images"] // len(names)), seed=seed, progress=False, **settings)
        figures["seconds_per_image"] = (time.perf_counter() - started) / len(found)
        figures |= {"images": len(found), "network_calls": len(rows), "evaluations": sum(rows) / len(found)}
        figures |= {"weights": counts["weights"], "flops_per_image": counts["flops"] * sum(rows) / len(found)}
        if judge:
            figures["kid"] = judge.kid(np.stack([np.asarray(one.image) for one in found]))
    hook.remove()
    print(case, figures, flush=True)


def _inputs(config: DenoiserConfig, size: int) -> tuple[Tensor, ...]:
    return torch.zeros(1, config.channels, size, size), torch.zeros(1), torch.zeros(1, config.condition_width)


def _untrained_course(data: Path, folder: Path) -> Path:
    """Train the course's network on one batch of one image, for its speed."""
    return captionless.train(
        data, folder / "course", preset="course", encoder="bundled", images=1, batch=1, sample_grids=0, progress=False
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples" / "flowers", help="photographs, by class")
    parser.add_argument("--course", type=Path, help="a model trained with preset course")
    parser.add_argument("--images", type=int, default=20, help="images of each point")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="one sampler with two steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
