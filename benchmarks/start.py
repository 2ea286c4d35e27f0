"""Measure how long `captionless generate` takes to its first network call, next to importing PyTorch alone.

    python -m benchmarks.start --rounds 5

The two take turns, and each run appends one line to benchmarks/results/start.jsonl. Compare their medians of ``cpu``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.record import RESULTS, append, line, run

FIRST_CALL = """
import sys
from captionless.cli import main
from captionless.generation import sample

def stop(*_):
    raise SystemExit(0)

sample.advance = stop
sys.argv = ["captionless", "generate", "a daisy", "--out", sys.argv[1]]
main()
"""
"""A program that ends where `generate` would call the network for the first time."""


def main() -> None:
    """Run both programs in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, code in (("import torch", "import torch"), ("generate", FIRST_CALL)):
                usage = run([sys.executable, "-c", code, folder], Path(folder) / "log")
                print(f"{name}: {usage.wall:.2f} s, {usage.cpu:.2f} s of processor time")
                command = [sys.executable, "-m", "benchmarks.start"]
                append(RESULTS / "start.jsonl", line("start", {"program": name}, {}, usage, seed=0, command=command))


if __name__ == "__main__":
    main()
