"""What people see while they wait."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class _Lasting(Console):
    """A console that goes on in silence where its reader has gone, instead of ending the program."""

    def on_broken_pipe(self) -> None:
        """Let go of the standard error."""
        _let_go(sys.stderr)


stderr = _Lasting(stderr=True, highlight=False)
"""Progress and remarks; the standard output is kept for results."""


def say(message: str) -> None:
    """Print a remark."""
    stderr.print(message, markup=False, soft_wrap=True)


def show(result: object) -> None:
    """Print a result to the standard output; that its reader has gone (``| head``) neither ends nor fails the work."""
    try:
        print(result, flush=True)
    except BrokenPipeError:
        _let_go(sys.stdout)


def _let_go(stream: TextIO) -> None:
    """Send what is still to be written, and the flush at Python's own end, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def bar() -> Progress:
    """Return a progress bar that counts, and estimates the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=stderr,
        # Results printed meanwhile would go above the bar, which is right on a screen and wrong in a pipe.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )


LOG_SECONDS = 60.0
"""Where there is no terminal to show a bar, a line appears this often."""


class Watcher:
    """Shows remarks and the progress of tasks: the command line's ``captionless.progress.Progress``."""

    def __init__(self, progress: Progress) -> None:
        self.bar = progress
        self.tasks: dict[str, TaskID] = {}
        self.spoken = time.monotonic()

    def say(self, message: str) -> None:
        """Print a remark above the bar."""
        say(message)

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Show how far a task is; what is finished disappears."""
        if task not in self.tasks:
            self.tasks[task] = self.bar.add_task(task, total=total)
        text = f"{task} {detail}".strip()
        self.bar.update(self.tasks[task], completed=done, total=total, description=text)
        if not self.bar.console.is_terminal and time.monotonic() - self.spoken >= LOG_SECONDS:
            self.spoken = time.monotonic()
            left = next(one.time_remaining for one in self.bar.tasks if one.id == self.tasks[task])
            say(f"{text}, {done / total:.0%}" + ("" if left is None else f", about {left / 60:.0f} minutes left"))
        if done >= total:
            self.bar.remove_task(self.tasks.pop(task))


@contextmanager
def remarks() -> Iterator[None]:
    """Show the library's warnings as one plain line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module="captionless")
        from captionless.encoders.dual_encoder import PromptCut

        warnings.filterwarnings("always", category=PromptCut)
        warnings.showwarning = lambda message, *_, **__: say(f"captionless: {message}")
        yield
