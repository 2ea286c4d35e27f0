"""Try random inputs on the parsers of files that people give: ``python tools/fuzz.py [--minutes 10] [TARGET ...]``.

The first failure ends it, with the smallest input that fails. Each batch of inputs becomes a line of the log, and time
that a log has already is not spent again. The lines of the last runs are in ``tests/fuzz.log``.
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
    parser.add_argument("--seed", type=int, default=0, help="number of the first batch of inputs")
    parser.add_argument("--log", type=Path, default=Path("fuzz.log"))
    arguments = parser.parse_args()
    for target in arguments.targets or TARGETS:
        lines = arguments.log.read_text().splitlines() if arguments.log.exists() else []
        times = [float(line.split()[-2]) for line in lines if line.startswith(f"{target}, ")]
        while sum(times) < 60 * arguments.minutes:
            number, begun = arguments.seed + len(times), time.monotonic()
            fuzz(target, BATCH, number)
            times.append(time.monotonic() - begun)
            with arguments.log.open("a") as file:
                print(f"{target}, seed {number}: {BATCH} inputs, no failure in {times[-1]:.1f} s", file=file)
        print(f"{target}: {BATCH * len(times):,} inputs in {sum(times) / 60:.1f} minutes: no failure", flush=True)


if __name__ == "__main__":
    main()
