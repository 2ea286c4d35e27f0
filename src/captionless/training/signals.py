"""Stop a training run between two steps, where its state is consistent."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from accelerate import Accelerator

from captionless.training.loop import Callback, StopTraining
from captionless.training.state import TrainState


@dataclass
class StopRequest:
    """A flag that is set when the user has asked to stop."""

    requested: bool = False


class StopOnSignal(Callback):
    """End the run after the step during which a process received a signal; every process needs its own instance."""

    def __init__(self, accelerator: Accelerator, stop: StopRequest) -> None:
        self.accelerator, self.stop = accelerator, stop

    def on_step(self, state: TrainState) -> None:
        """Raise ``StopTraining`` if any process was asked to stop."""
        if _anyone(self.accelerator, self.stop.requested):
            raise StopTraining


@contextmanager
def stop_requests(say: Callable[[str], None] = lambda _: None) -> Iterator[StopRequest]:
    """Note Ctrl-C and termination signals instead of stopping at once; a second Ctrl-C does stop at once.

    An interruption in the middle of a step would leave weights and counters that do not belong together. Outside the
    main thread, where Python delivers no signals, nothing is changed.

    Args:
        say: receives a remark when the request is noted.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        say("Stopping after this step. Press Ctrl-C again to stop at once and lose what followed the last checkpoint.")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _anyone(accelerator: Accelerator, flag: bool) -> bool:
    """Return whether ``flag`` is true in any process; all processes must call this together."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.gather(torch.tensor([float(flag)], device=accelerator.device)).max())
