"""Stop a training run between two steps, when its state is consistent."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from captionless.signals import TERMINATION
from captionless.training.loop import Callback, StopTraining
from captionless.training.processes import Processes
from captionless.training.state import TrainState


class StopOnSignal(Callback):
    """End the run after the step during which any process received Ctrl-C or a termination signal.

    Each process uses one instance as a context manager. The first signal only requests a stop, because stopping
    immediately would leave weights and counters inconsistent; a second Ctrl-C stops immediately. (Of the other signals,
    several may come at once, for example when a terminal is closed.) Outside the main thread, where Python delivers no
    signals, no handlers are installed.
    """

    def __init__(self, processes: Processes, say: Callable[[str], None]) -> None:
        self.processes, self.say, self.requested = processes, say, False
        self._abandons = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the signal handlers."""
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, *(number for number in TERMINATION if signal.getsignal(number) != signal.SIG_IGN)]
            self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_step(self, state: TrainState) -> None:
        """Raise ``StopTraining`` if any process was asked to stop."""
        if self.processes.least(-float(self.requested)) < 0:
            raise StopTraining

    def attempt(self, work: Callable[[], object]) -> None:
        """Do work that changes no state of the training; the first signal abandons it."""
        with suppress(StopTraining):  # `on_step` raises it, in all processes after the same step
            try:
                self._abandons = True
                if not self.requested:
                    work()
            finally:
                self._abandons = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested, abandons, self._abandons = True, self._abandons, False
        with suppress(RuntimeError):  # the signal came while something was printed
            self.say(
                f"Stopping {'now, without what is being drawn' if abandons else 'after this step'}. Press Ctrl-C again "
                "to stop immediately and lose the steps since the last checkpoint."
            )
        if abandons:
            raise StopTraining


class Abandonable(Callback):
    """A callback whose work after a step is abandoned by a signal, because it takes long and changes no state."""

    def __init__(self, callback: Callback, stop: StopOnSignal) -> None:
        self.callback, self.stop = callback, stop
        self.on_start, self.on_end = callback.on_start, callback.on_end  # type: ignore[method-assign]

    def on_step(self, state: TrainState) -> None:
        """Call the callback, unless the run is to end."""
        self.stop.attempt(lambda: self.callback.on_step(state))
