"""Training: throughput beside other libraries, and time to quality."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import cases, environments
from benchmarks.cases import Case
from benchmarks.record import Usage, append, line, read, run

Answer = tuple[dict[str, Any], Usage, list[str]]
"""The contents of ``figures.json`` (see ``benchmarks.peers.peer.answer``), what the process used, and its command."""


@dataclass(frozen=True)
class Bench:
    """Where a benchmark finds its data and leaves its files and results.

    Args:
        data: photographs, one sub-folder per class.
        work: a folder for environments and temporary files.
        results: the JSON lines file.
        interpreter: run everything with this interpreter instead of the environments, to try the benchmark out.
    """

    data: Path
    work: Path
    results: Path
    interpreter: str = ""

    def ask(self, case: Case, precision: str, **request: Any) -> Answer:
        """Let a library carry out a request (see ``benchmarks.peers.peer.Request``) in a process of its own."""
        work = Path(request["work"])
        shutil.rmtree(work, ignore_errors=True)
        wanted = {"size": case.size, "batch": case.batch, "network": case.network, "precision": precision} | request
        python = self.interpreter or environments.python(case.peer, self.work)
        command = [python, "-m", f"benchmarks.peers.{case.peer}", json.dumps(wanted)]
        usage = run(command, work.with_suffix(".log"), CAPTIONLESS_CACHE=str(work / "cache"))
        answer = json.loads((work / "figures.json").read_text(encoding="utf-8"))
        return answer, Usage(usage.wall, usage.cpu, max(usage.peak_memory, answer["peak_memory"])), command

    def known(self, benchmark: str, case: dict[str, Any], seed: int) -> bool:
        """Return whether the results already have this measurement; a benchmark that is run again goes on there."""
        wanted = (benchmark, case, seed)
        return any((one["benchmark"], one["case"], one["seed"]) == wanted for one in read(self.results))

    def write(self, benchmark: str, case: dict[str, Any], seed: int, found: Answer) -> None:
        """Append one measurement to the results."""
        answer, usage, command = found
        where = answer["where"]
        append(self.results, line(benchmark, case, answer["figures"], usage, seed=seed, command=command, where=where))


def throughput(bench: Bench, chosen: Sequence[Case], repeats: int, seconds: float, precisions: Sequence[str]) -> None:
    """Measure images a second, each case once in turn (A B C A B C), ``repeats`` times with other seeds."""
    for seed in range(repeats):
        for precision in precisions:
            for case in chosen:
                record = case.record(precision)
                if bench.known("train", record, seed):
                    continue
                request = {"action": "train", "folder": str(bench.data), "seed": seed, "seconds": seconds}
                found = bench.ask(case, precision, work=str(bench.work / "train"), **request)
                bench.write("train", record, seed, found)
                rate = found[0]["figures"]["images_per_second"]
                print(f"{case.name}, {case.size} px, {case.network}: {rate:.1f} images/s ({found[1].wall:.0f} s)")


def time_to_quality(
    bench: Bench, chosen: Sequence[Case], seeds: int, seconds: float, every: float, images: int, features: str
) -> None:
    """Train each case with each seed, take snapshots, sample from each, and judge the samples.

    One line is written for each training and for each judged snapshot. The clock starts with the process, so reading
    the images, and embedding them in the case of captionless, counts; sampling and judging do not.
    """
    from benchmarks.judge import split

    train, held_out = split(bench.data, bench.work / "data")
    for seed in range(seeds):
        for case in chosen:
            record, work = case.record("float32"), bench.work / "quality" / f"{case.peer}-{len(case.network)}-{seed}"
            interval = seconds if cases.COURSE in case.tables else every  # it samples 100 times as slowly
            request = {"action": "train", "folder": str(train), "seed": seed, "seconds": seconds, "every": interval}
            if not bench.known("quality training", record, seed):
                bench.write("quality training", record, seed, bench.ask(case, "float32", work=str(work), **request))
            figures = json.loads((work / "figures.json").read_text(encoding="utf-8"))["figures"]
            for passed, name in figures["snapshots"]:
                _judge(bench, case, seed, (passed, work / name), images, (held_out, features))


def _judge(
    bench: Bench, case: Case, seed: int, snapshot: tuple[float, Path], images: int, judging: tuple[Path, str]
) -> None:
    """Sample from one snapshot and judge the samples against the held-out images."""
    import numpy as np

    from benchmarks.judge import judge
    from benchmarks.peers.captionless import class_names

    held_out, features = judging
    judged, names = judge(held_out, case.size, features), class_names(held_out.with_name("train"))
    for sampling, measures in cases.JUDGED[case.name]:
        record = case.record("float32") | {"snapshot": snapshot[1].name, "sampling": sampling, "images": images}
        if bench.known("quality", record, seed):
            continue
        work = bench.work / "samples"
        request = {"action": "sample", "folder": str(held_out.with_name("train")), "images": images, "seed": seed}
        found = bench.ask(case, "float32", work=str(work), snapshot=str(snapshot[1]), sampling=sampling, **request)
        shown = np.load(work / "images.npy", allow_pickle=False)
        figures = {"seconds": snapshot[0], "features": features}
        if cases.KID in measures:
            figures["kid"] = judged.kid(shown)
        if cases.ACCURACY in measures:
            figures["accuracy"] = judged.accuracy(shown, np.arange(len(shown)) % len(names))
        found[0]["figures"] |= figures
        bench.write("quality", record, seed, found)
        print(f"{case.name}, seed {seed}, after {snapshot[0]:.0f} s: {figures}")
