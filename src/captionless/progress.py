"""Report progress: one protocol for reading, embedding, training and evaluation."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any, Protocol

from tqdm import tqdm

from captionless.errors import harmless

LOG_SECONDS = 60.0
"""Minimum time between the progress lines in a log file."""
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {elapsed} so far, about {remaining} left{postfix}"


class Progress(Protocol):
    """Receives progress reports; ``ProgressBar`` displays them, ``Silent`` discards them."""

    def say(self, message: str) -> None:
        """Show a one-line remark, which remains visible after the task has ended."""

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report that ``done`` of ``total`` units of a task are complete; ``detail`` is shown after the bar."""


class Silent:
    """A ``Progress`` that discards all reports."""

    def say(self, message: str) -> None:
        """Discard the remark."""

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Discard the report."""


class ProgressBar:
    """Display progress on standard error: as bars in terminals and notebooks, as one line per minute in log files.

    Tasks shorter than a second show no bar, and a bar disappears when its task is complete.
    """

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}
        self._logged = time.monotonic()

    def say(self, message: str) -> None:
        """Print the remark above the bars."""
        with suppress(OSError, ValueError):  # a full disk, or a terminal that was closed, does not end the work
            tqdm.write(harmless(message), file=sys.stderr)

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Update the bar of a task or, in a log file, print its progress once per minute."""
        if not _watched():
            if time.monotonic() - self._logged >= LOG_SECONDS:
                self._logged = time.monotonic()
                self.say(f"{task}: {done / max(1, total):.0%}" + (f", {detail}" if detail else ""))
            return
        with suppress(OSError, ValueError):
            self._draw(task, done, total, detail)

    def _draw(self, task: str, done: int, total: int, detail: str) -> None:
        if task not in self._bars:
            self._bars[task] = tqdm(
                initial=done,  # of a resumed task, or the second part of one: it tells nothing about the speed
                total=total,
                desc=task,
                leave=False,
                delay=1.0,
                smoothing=0,  # the mean speed: pauses for sample grids then count as often as they occur
                file=sys.stderr,
                dynamic_ncols=True,
                bar_format=BAR,
            )
        bar = self._bars[task]
        bar.total = total
        bar.set_postfix_str(detail, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(task).close()


def _watched() -> bool:
    """Return whether standard error is a terminal or a notebook."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def choose_progress(progress: Progress | bool | None) -> Progress:
    """Convert the ``progress`` argument of a public function to a ``Progress``.

    True shows a progress bar, False shows nothing, and None shows a bar only in a terminal or a notebook.
    """
    if progress is None:
        progress = _watched()
    if isinstance(progress, bool):
        return ProgressBar() if progress else Silent()
    return progress


class PartProgress:
    """Report the training of one stage as a part of the whole, from the share ``begin`` to ``end`` of it."""

    def __init__(self, whole: Progress, begin: float, end: float) -> None:
        self.whole, self.begin, self.end = whole, begin, end

    def say(self, message: str) -> None:
        """Pass the remark on."""
        self.whole.say(message)

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report the progress of the training as a share of all stages, and that of other tasks as it is."""
        if task == "Training":
            done = round(total * (self.begin + (self.end - self.begin) * done / total))
        self.whole.advance(task, done, total, detail)
