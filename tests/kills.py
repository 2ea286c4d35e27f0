"""Kill a training at random moments and resume it, until it is done; then compare it with one that was left alone.

    python tests/kills.py NUMBER FOLDER

Weights, averaged weights and moments of the optimizer must be equal, bit for bit, with dropout and after any kill
(SIGKILL). The folder must have a loadable model as soon as it has had one, and no temporary file at the end. If this is
interrupted itself, the same command continues in FOLDER. The log of the last run is in ``tests/kills.log``.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import forked
from captionless.checkpoints.config import CONFIG
from captionless.checkpoints.model import load_model
from training_cases import same_state

LENGTH = ["--images", "160", "--checkpoint-minutes", "0.005", "--sample-grids", "0"]
WORDS = ["train", "photos", "--encoder", "encoder", *forked.TRAINING, *LENGTH, "--resume"]


def kill_and_compare(folder: Path, number: int) -> None:
    """Kill trainings ``number`` times in all, and compare each that was completed with one left alone."""
    root, log = folder / "prepared", folder / "kills.log"
    if not log.exists():
        shutil.rmtree(root, ignore_errors=True)
        forked.prepare(root)
        begun = time.monotonic()
        assert forked.call([*WORDS, "--out", "whole"], root) == 0, (root / "err").read_text()
        log.write_text(f"left alone, a training takes {time.monotonic() - begun:.1f} s\n")
    while (kills := log.read_text().count("killed")) < number or "equal" not in log.read_text().splitlines()[-1]:
        done = log.read_text().count("equal")
        out, longest = root / f"model-{done}", min(map(float, re.findall(r"takes ([\d.]+) s", log.read_text())))
        after, begun = random.Random(kills).uniform(0, longest), time.monotonic()
        had_model = (out / CONFIG).exists()
        process = forked.start([*WORDS, "--out", out.name], root)
        if kills < number:
            time.sleep(after)
            os.kill(process, signal.SIGKILL)
        code = forked.finish(process)
        assert code in (0, -signal.SIGKILL), (root / "err").read_text()
        if code:
            model = load_model(out) if had_model or (out / CONFIG).exists() else None
            seen = f"its model has seen {model.config.training.images_seen} images" if model else "it had no model yet"
            said = f"{kills + 1}: model-{done} was killed after {after:.2f} s; {seen}"
        else:
            assert same_state(root / "whole", out)
            assert not list(out.rglob("*.tmp"))
            whole = f" (that was not killed takes {time.monotonic() - begun:.1f} s)"
            said = f"model-{done} is complete, and equal to the one left alone, bit for bit"
            said += "" if f"model-{done} was killed" in log.read_text() else whole
        with log.open("a") as file:
            print(said, file=file)
    print(log.read_text(), end="")


if __name__ == "__main__":
    kill_and_compare(Path(sys.argv[2]), int(sys.argv[1]))
