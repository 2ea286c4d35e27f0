"""Kill a training at random moments and resume it, until it is done; then compare it with one that was left alone.

    python tests/kills.py [NUMBER [SEED]]

Weights, averaged weights and moments of the optimizer must be equal, bit for bit, with dropout and after any kill
(SIGKILL). The folder must have a loadable model as soon as it has had one, and no temporary file at the end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import forked
from captionless.checkpoints.config import CONFIG
from captionless.checkpoints.model import load_model
from training_cases import same_state

LENGTH = ["--images", "160", "--checkpoint-minutes", "0.005", "--sample-grids", "0"]
WORDS = ["train", "photos", "--encoder", "encoder", *forked.TRAINING, *LENGTH, "--resume"]


def kill_and_compare(root: Path, number: int, seed: int) -> int:
    """Kill trainings ``number`` times in all; return how many of them were completed, each equal to one left alone."""
    draw = random.Random(seed)
    begun = time.monotonic()
    assert forked.call([*WORDS, "--out", "whole"], root) == 0, (root / "err").read_text()
    longest = time.monotonic() - begun
    kills, completed = 0, 0
    while kills < number or completed == 0:
        out, seen = root / f"killed-{completed}", False
        while True:
            process = forked.start([*WORDS, "--out", out.name], root)
            if kills < number:
                time.sleep(draw.uniform(0, longest))
                os.kill(process, signal.SIGKILL)
            if (code := forked.finish(process)) == 0:
                break
            assert code == -signal.SIGKILL, (root / "err").read_text()
            kills += 1
            if seen := seen or (out / CONFIG).exists():
                load_model(out)
        assert same_state(root / "whole", out)
        assert not list(out.rglob("*.tmp"))
        completed += 1
        print(f"{kills} kills, {completed} trainings completed", flush=True)
    return completed


def main() -> None:
    """Kill and compare, and say how often."""
    number, seed = (int(sys.argv[1]) if len(sys.argv) > 1 else 50, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as name:
        completed = kill_and_compare(forked.prepare(Path(name) / "prepared"), number, seed)
    print(f"{number} kills of {completed} trainings: all equal, bit for bit, to one that was left alone")


if __name__ == "__main__":
    main()
