"""Name the signals that ask a process to end, and treat them like Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

TERMINATION = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
"""Signals that ask a process to end, besides Ctrl-C; closing a terminal sends SIGHUP, on Windows SIGBREAK."""


def interrupt_on_termination() -> None:
    """Let these signals raise ``KeyboardInterrupt``, so that what was computed is kept, unless they are ignored."""
    for number in TERMINATION:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in TERMINATION:  # they often come in pairs, and the second would interrupt what the first one began
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt
