"""Stopping a training between two steps, where its state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from accelerate import Accelerator


@dataclass
class StopRequest:
    """Whether somebody has asked to stop."""

    requested: bool = False


@contextmanager
def stop_requests(say: Callable[[str], None] = lambda _: None) -> Iterator[StopRequest]:
    """Note Ctrl-C and termination signals instead of stopping at once; a second Ctrl-C does stop at once.

    An interruption in the middle of a step would leave weights and counters that do not belong together.
    Args:
        say: is told that the request has been heard.

    Outside the main thread, where Python delivers no signals, nothing is changed.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        say("Stopping after this step; once more stops at once and loses what came after the last checkpoint.")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def anyone(accelerator: Accelerator, flag: bool) -> bool:
    """Tell whether any of the processes says yes; each must ask, so that all act alike."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.gather(torch.tensor([float(flag)], device=accelerator.device)).max())
