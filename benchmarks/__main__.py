"""Measure everything with one command: ``python -m benchmarks``; see ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cases, environments
from benchmarks.record import RESULTS, ROOT, processor, run
from benchmarks.train import Bench, throughput, time_to_quality

TRAININGS = {"train": cases.TRAINING, "large": cases.LARGE, "growth": cases.GROWING}
SCRIPTS = ("sample", "embed", "runtimes", "start", "memory")
QUICK = ("train", "start", "embed", "runtimes", "sample")
"""What is measured by default; the others take hours."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen parts one after the other."""
    options = _options(arguments)
    results = options.results.resolve() / "train.jsonl"
    bench = Bench(options.data.resolve(), options.work.resolve(), results, options.interpreter)
    for part in options.parts:
        started = time.perf_counter()
        if part in TRAININGS:
            chosen = cases.SMOKE if options.smoke else TRAININGS[part]
            throughput(bench, chosen, options.repeats, options.seconds, _precisions())
        elif part == "quality":
            seconds, every = 60 * options.minutes, 60 * options.minutes / 5
            chosen = cases.SMOKE if options.smoke else cases.QUALITY
            time_to_quality(bench, chosen, options.repeats, seconds, every, options.images, options.features)
        else:
            _script(part, bench, options)
        print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)


def _script(part: str, bench: Bench, options: argparse.Namespace) -> None:
    """Run a script that measures captionless alone, in its environment."""
    python = bench.interpreter or environments.python("captionless", bench.work)
    command = [python, "-m", f"benchmarks.{part}"]
    if part in ("sample", "embed"):
        command += ["--data", str(bench.data)]
    if part == "sample" and options.course:
        command += ["--course", str(options.course)]
    if part == "sample" and options.smoke:
        command += ["--smoke", "--images", "5"]
    run(command, bench.work / f"{part}.log", BENCHMARK_RESULTS=str(bench.results.parent))


def _precisions() -> tuple[str, ...]:
    """Return the number formats to measure: bf16 too where the processor or the accelerator computes in it."""
    import torch

    native = torch.cuda.is_available() or "bf16" in processor()
    return ("float32", "bf16") if native else ("float32",)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parts = (*TRAININGS, "quality", *SCRIPTS)
    parser.add_argument("parts", nargs="*", default=QUICK, help=f"of {', '.join(parts)}; default: {', '.join(QUICK)}")
    parser.add_argument("--data", type=Path, default=ROOT / "examples" / "flowers", help="photographs, by class")
    parser.add_argument("--work", type=Path, required=True, help="a folder for environments and temporary files")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the JSON lines")
    parser.add_argument("--repeats", type=int, default=3, help="how often trainings are measured; also their seeds")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a measured training")
    parser.add_argument("--minutes", type=float, default=10.0, help="quality: length of a training")
    parser.add_argument("--images", type=int, default=200, help="quality: images sampled from each snapshot")
    parser.add_argument("--features", default="bundled", help="quality: feature extractor of KID")
    parser.add_argument("--course", type=Path, help="sample: a model trained with preset course")
    parser.add_argument("--interpreter", default="", help="use this one instead of the environments")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, to see that everything runs")
    options = parser.parse_args(arguments)
    if wrong := [part for part in options.parts if part not in parts]:
        parser.error(f"unknown part: {', '.join(wrong)}; choose from {', '.join(parts)}")
    return options


if __name__ == "__main__":
    main()
