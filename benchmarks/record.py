"""Write measurements as JSON lines, each with everything that is needed to judge and to repeat it.

Only the standard library is imported, so that this module runs in every environment that is measured.

    with measured(Path("benchmarks/results/start.jsonl"), "start", case="generate") as figures:
        figures["seconds"] = ...
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "benchmarks" / "results"))
"""The folder of the JSON lines."""
PEERS = ("diffusers", "denoising-diffusion-pytorch", "onnxruntime")
PACKAGES = ("captionless", "torch", "numpy", "pillow", "transformers", "accelerate", *PEERS)
"""The packages whose versions are recorded, if installed."""

STARTER = """
import json, os, subprocess, sys, time
started, os.environ["PROCESS_STARTED"] = time.perf_counter(), str(time.time())
with open(sys.argv[1], "wb") as log:
    process = subprocess.Popen(sys.argv[2:], stdout=log, stderr=log)
_, status, used = os.wait4(process.pid, 0)
wall, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), wall, cpu, used.ru_maxrss]))
"""
"""Python code that runs a command and prints its exit status, elapsed and processor seconds, and largest memory."""


@dataclass(frozen=True)
class Usage:
    """What a process used.

    Args:
        wall: elapsed seconds.
        cpu: seconds of processor time, user and system, including finished child processes.
        peak_memory: largest resident memory in bytes; of several processes, that of the largest one.
    """

    wall: float
    cpu: float
    peak_memory: int


@contextmanager
def measured(path: Path, benchmark: str, seed: int = 0, **case: Any) -> Iterator[dict[str, Any]]:
    """Measure the body of a ``with`` statement in this process and append one line to ``path``.

    Args:
        path: the JSON lines file.
        benchmark: name of the benchmark.
        seed: seed of its random numbers.
        case: what was measured: sizes, network, sampler and so on.

    Yields:
        A dictionary for the figures; a body that raises writes no line.
    """
    figures: dict[str, Any] = {}
    wall, cpu = time.perf_counter(), _cpu_seconds()
    yield figures
    usage = Usage(time.perf_counter() - wall, _cpu_seconds() - cpu, peak_memory())
    append(path, line(benchmark, case, figures, usage, seed=seed, command=sys.orig_argv))


def line(
    benchmark: str,
    case: dict[str, Any],
    figures: dict[str, Any],
    usage: Usage,
    *,
    seed: int,
    command: Sequence[str],
    where: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one measurement; ``where`` is the environment if it is not that of this process."""
    return {
        "benchmark": benchmark,
        "case": case,
        "figures": figures,
        "seed": seed,
        **asdict(usage),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "command": " ".join([Path(command[0]).name, *map(_relative, command[1:])]),
        **(where or environment()),
    }


def append(path: Path, record: dict[str, Any]) -> None:
    """Append one line to a file in a single write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def read(*paths: Path) -> list[dict[str, Any]]:
    """Return the lines of those files that exist."""
    return [json.loads(text) for path in paths if path.is_file() for text in path.read_text("utf-8").splitlines()]


def environment() -> dict[str, Any]:
    """Return the versions, processor, threads and accelerator of this process."""
    torch = sys.modules.get("torch")
    device = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "cpu"
    return {
        "versions": {"python": platform.python_version()} | _versions(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "device": device,
    }


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    import resource  # which Windows lacks; the page of results can be rendered there

    return _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def run(command: Sequence[str], log: Path, **environ: str) -> Usage:
    """Run a command from the root of the checkout and return what it used; its output goes to the file ``log``.

    ``import captionless`` finds the package of this checkout, whatever is installed.

    Raises:
        RuntimeError: the command failed.
    """
    # Linux counts the memory of the process that starts a command as the command's own. So a small one starts it.
    log.parent.mkdir(parents=True, exist_ok=True)
    starter = [sys.executable, "-S", "-c", STARTER, str(log), *command]
    environ = {"PYTHONPATH": str(ROOT / "src"), **environ}
    finished = subprocess.run(starter, cwd=ROOT, env=os.environ | environ, stdout=subprocess.PIPE, check=True)
    status, wall, cpu, maxrss = json.loads(finished.stdout)
    if status:
        raise RuntimeError(f"the command failed with exit status {status}; its output is in {log}")
    return Usage(wall, cpu, _bytes(maxrss))


def commit() -> str:
    """Return the commit of the checkout, with ``+`` if files other than results differ; empty outside a checkout."""
    if not shutil.which("git"):
        return ""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    compare = ["git", "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"]
    changed = subprocess.run(compare, cwd=ROOT, capture_output=True, check=False)
    return found.stdout.strip() + ("+" if found.stdout and changed.returncode else "")


def _relative(word: str) -> str:
    """Return a word of a command with paths relative to the checkout."""
    return word.replace(f"{ROOT}/", "").replace(str(ROOT), ".").replace(f"{ROOT.parent}/", "../")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the name of the processor and, on Linux, the widest instruction set that matters for neural networks."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    text = info.read_text(encoding="utf-8")
    name = next((row.split(":", 1)[1].strip() for row in text.splitlines() if row.startswith("model name")), "")
    flags = text.split("flags", 1)[-1].split("\n", 1)[0].split()
    widest = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    return f"{name or platform.machine()} ({widest})" if widest else name or platform.machine()


def _cpu_seconds() -> float:
    import resource

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _bytes(maxrss: int) -> int:
    return maxrss if sys.platform == "darwin" else maxrss * 1024
