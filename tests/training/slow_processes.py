"""Train with a first process that reads and saves more slowly than the default group of processes waits.

Arguments: the folder of images, the model folder, an encoder, the group's timeout, and the delay of reading and of each
save, in seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from captionless.training import checkpointer, run


def delayed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The function, before which the first process waits."""

    def slow(*args: Any, **named: Any) -> Any:
        if distributed.get_rank() == 0:
            time.sleep(seconds)
        return function(*args, **named)

    return slow


def main(photos: str, out: str, encoder: str, timeout: str, delay: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=timedelta(seconds=float(timeout)))
    run._load = delayed(run._load, float(delay))
    checkpointer.save_state = delayed(checkpointer.save_state, float(delay))
    settings: dict[str, Any] = {"size": 8, "width": 16, "batch": 4, "images": 8, "precision": "float32"}
    run.train(photos, Path(out), encoder=encoder, checkpoint_minutes=0, progress=False, **settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
