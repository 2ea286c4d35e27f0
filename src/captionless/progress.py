"""Report the progress of long work: one protocol for reading, embedding, training and evaluating."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from tqdm import tqdm

LOG_SECONDS = 60.0
"""Time between the lines in a log file."""
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {elapsed} so far, about {remaining} left{postfix}"


class Progress(Protocol):
    """Receives what long work reports; the command line draws it, ``Silent`` drops it."""

    def say(self, message: str) -> None:
        """Show a remark, one line that is worth reading afterwards."""

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report that ``done`` of ``total`` units of a task, named for people, are complete, with a ``detail``."""


class Silent:
    """A ``Progress`` that reports nothing."""

    def say(self, message: str) -> None:
        """Drop the remark."""

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Drop the report."""


class ProgressBar:
    """Draw a ``Progress`` on the standard error: bars in terminals and notebooks, in a log file a line each minute.

    Work of less than a second shows no bar, and a bar disappears when its task is complete.
    """

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}
        self._logged = time.monotonic()

    def say(self, message: str) -> None:
        """Print the remark above the bars."""
        tqdm.write(message, file=sys.stderr)

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Draw the bar of a task, with a detail behind it."""
        if not _watched():
            if time.monotonic() - self._logged >= LOG_SECONDS:
                self._logged = time.monotonic()
                self.say(f"{task}: {done / max(1, total):.0%}" + (f", {detail}" if detail else ""))
            return
        if task not in self._bars:
            self._bars[task] = tqdm(
                total=total, desc=task, leave=False, delay=1.0, file=sys.stderr, dynamic_ncols=True, bar_format=BAR
            )
        bar = self._bars[task]
        bar.total = total
        bar.set_postfix_str(detail, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(task).close()


def _watched() -> bool:
    """Whether a person is there to see the standard error: a terminal or a notebook."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def choose_progress(progress: Progress | bool | None) -> Progress:
    """Return the receiver that a public function's ``progress`` argument stands for.

    True stands for a bar, False for none, None for a bar if a person is there to see it: in a terminal or a notebook.
    """
    if progress is None:
        progress = _watched()
    if isinstance(progress, bool):
        return ProgressBar() if progress else Silent()
    return progress
