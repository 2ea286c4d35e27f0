"""Sampling: seconds an image against quality, for several samplers and numbers of steps, and the course's recipe.

Quality is the KID to the photographs in ``--data``. The bundled model was trained on those in ``examples/flowers``,
among others. The course's recipe is 150 ancestral steps of the course's network: give a model trained with
``preset="course"`` as ``--course``. Without one, a network with random weights is timed, and no quality is stated.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import captionless
from benchmarks.cases import COURSE_SAMPLING
from benchmarks.judge import Judge
from benchmarks.peers.captionless import class_names
from benchmarks.record import RESULTS, ROOT, measured, read

GRID = {
    "dpmpp-2m": (4, 8, 15, 30),
    "euler": (8, 15, 30),
    "ddim": (8, 15, 30),
    "ddpm": (15, 150),
}
"""Samplers and numbers of steps; dpmpp-2m with 15 steps is the default."""


def main() -> None:
    """Measure every sampler and number of steps once in turn, ``--repeats`` times with other seeds."""
    options = _options()
    generator = captionless.load("bundled")
    judge = Judge(options.data, generator.model.config.size)
    grid = {"dpmpp-2m": (2,)} if options.smoke else GRID
    for seed in range(options.repeats):
        for sampler, several in grid.items():
            for steps in several:
                case = {"model": "bundled", "sampler": sampler, "steps": steps}
                pareto_point(generator, judge, case, options, seed)
        with tempfile.TemporaryDirectory() as folder:
            course = captionless.load(options.course or _untrained_course(options.data, Path(folder)))
            judged = Judge(options.data, course.model.config.size) if options.course else None
            shown = options.images if options.course else 2
            settings = COURSE_SAMPLING | ({"steps": 2} if options.smoke else {})
            case = {"model": "course" if options.course else "course, untrained", **settings}
            pareto_point(course, judged, case, argparse.Namespace(**vars(options) | {"images": shown}), seed)


def pareto_point(
    generator: captionless.Generator, judge: Judge | None, case: dict[str, Any], options: Any, seed: int
) -> None:
    """Sample once and write the seconds an image, the network calls and the KID of the images."""
    settings = {name: case[name] for name in ("sampler", "steps")}
    names, case = class_names(options.data), case | {"images": options.images}
    if any((one["benchmark"], one["case"], one["seed"]) == ("sample", case, seed) for one in read(options.results)):
        return
    generator.generate(names[:1], progress=False, sampler=settings["sampler"], steps=2)  # memory, kernels, encoder
    calls: list[int] = []
    each = -(-options.images // len(names))
    hooks = [stage.denoiser.register_forward_hook(lambda *_: calls.append(1)) for stage in generator.stages]
    with measured(options.results, "sample", seed, **case) as figures:
        started = time.perf_counter()
        found = generator.generate(names[: options.images], n=each, seed=seed, progress=False, **settings)
        figures["seconds_per_image"] = (time.perf_counter() - started) / len(found)
        figures |= {"size": found[0].image.width, "images": len(found), "network_calls": len(calls)}
        figures["weights"] = sum(_weights(stage.denoiser) for stage in generator.stages)
        if judge:
            figures["kid"] = judge.kid(np.stack([np.asarray(one.image) for one in found]))
    for hook in hooks:
        hook.remove()
    print(case, figures, flush=True)


def _weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _untrained_course(data: Path, folder: Path) -> Path:
    """Train the course's network on one batch of one image, for its speed."""
    return captionless.train(
        data, folder / "course", preset="course", encoder="bundled", images=1, batch=1, sample_grids=0, progress=False
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples" / "flowers", help="photographs, by class")
    parser.add_argument("--course", type=Path, help="a model trained with preset course")
    parser.add_argument("--images", type=int, default=25, help="images of each point")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "sample.jsonl")
    parser.add_argument("--smoke", action="store_true", help="one sampler with two steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
