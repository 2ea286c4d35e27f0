"""Output for people: progress and remarks on standard error, results on standard output."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

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
from rich.table import Table
from rich.text import Text

LOG_SECONDS = 60.0
"""A log file shows no bar; it gets a line this often."""
PIPE_WIDTH = 10_000
"""Width up to which the lines of a table are not broken where the standard output is no terminal."""


class _Lasting(Console):
    """A console that goes on in silence where its reader has gone, instead of ending the program."""

    def on_broken_pipe(self) -> None:
        """Redirect standard error to the null device."""
        _let_go(sys.stderr)


stderr = _Lasting(stderr=True, highlight=False)
"""Progress and remarks; standard output is reserved for results."""


def say(message: str) -> None:
    """Print a remark."""
    stderr.print(message, markup=False, soft_wrap=True)


def show(result: object) -> None:
    """Print a result to standard output. A closed pipe (``| head``) neither stops the command nor makes it fail."""
    try:
        print(result, flush=True)
    except BrokenPipeError:
        _let_go(sys.stdout)


def show_table(rows: Table) -> None:
    """Print a table to standard output, as wide as the terminal or, in a pipe, as its content."""
    show(table_text(rows, None if sys.stdout.isatty() else PIPE_WIDTH))


def table_text(rows: Table, width: int | None = PIPE_WIDTH) -> str:
    """Return a table as text."""
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(rows)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def plain_table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: tuple[int, ...] = (0,)) -> Table:
    """Return a table without lines; the columns numbered ``left`` are aligned to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(heads))
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i in left else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _let_go(stream: TextIO) -> None:
    """Redirect a closed stream to the null device, so that neither later writes nor Python's final flush fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Bar:
    """Shows the progress of tasks: as a bar on a terminal, as an occasional line in a log file."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.tasks: dict[str, TaskID] = {}
        self.logged = time.monotonic()

    def say(self, message: str) -> None:
        """Print a remark above the bar."""
        say(message)

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Show how far a task is; a finished task disappears."""
        if task not in self.tasks:
            self.tasks[task] = self.bar.add_task(task, total=total)
        text = f"{task} {detail}".strip()
        self.bar.update(self.tasks[task], completed=done, total=total, description=text)
        if not stderr.is_terminal and time.monotonic() - self.logged >= LOG_SECONDS:
            self.logged = time.monotonic()
            parts = [f"{task}: {done / max(1, total):.0%}", detail, self._left(task)]
            say(", ".join(filter(None, parts)))
        if done >= total:
            self.bar.remove_task(self.tasks.pop(task))

    def _left(self, task: str) -> str:
        seconds = next(one.time_remaining for one in self.bar.tasks if one.id == self.tasks[task])
        return "" if seconds is None else time_left(seconds)


def time_left(seconds: float) -> str:
    """Return a duration as words about what remains, to the minute."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    return f"about {minutes:,} {'minute' if minutes == 1 else 'minutes'} left"


@contextmanager
def working() -> Iterator[Bar]:
    """Show progress, and the library's warnings as one plain line each."""
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns += [TextColumn("left"), TimeRemainingColumn()]
    # Results printed meanwhile would go above the bar, which is right on a screen and wrong in a pipe.
    bar = Progress(*columns, console=stderr, redirect_stdout=sys.stdout.isatty(), transient=True)
    with bar, warnings.catch_warnings():
        from captionless.encoders.dual_encoder import PromptCut

        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module="captionless")
        warnings.filterwarnings("always", category=PromptCut)
        warnings.showwarning = lambda message, *_, **__: say(f"captionless: {message}")
        yield Bar(bar)
