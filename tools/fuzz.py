"""Try random inputs on the parsers of files that people give: ``python tools/fuzz.py [--minutes 10] [TARGET ...]``.

Prints a line for each target. The first failure ends it, with the smallest input that fails. The log of the
last run is in ``tests/fuzz.log``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fuzz_cases import TARGETS, fuzz

BATCH = 500


def main() -> None:
    """Parse the arguments, and try inputs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="number of the first batch of inputs")
    arguments = parser.parse_args()
    for target in arguments.targets or TARGETS:
        number, end = arguments.seed, time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end:
            fuzz(target, BATCH, number)
            number += 1
        tried = BATCH * (number - arguments.seed)
        print(f"{target}: {tried:,} inputs, seeds {arguments.seed} to {number - 1}: no failure", flush=True)


if __name__ == "__main__":
    main()
