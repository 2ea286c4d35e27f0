"""Print progress and remarks to standard error, and results to standard output."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from captionless.errors import harmless
from captionless.paths import WINDOWS, quoted
from captionless.progress import ProgressBar

FLAGS: dict[str, str] = {}
"""The flag of each setting of the command line; those of the running command take precedence."""
_NAMED = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")
PIPE_WIDTH = 10_000
"""Width of tables if standard output is not a terminal; large enough that no line is wrapped."""


def print_remark(message: str) -> None:
    """Print a remark to standard error; settings in backticks become flags."""
    _print(harmless(with_flags(message, FLAGS)), sys.stderr)


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """Convert the parameters in backticks, such as `` `hold_out=0.1` ``, to options such as ``--hold-out 0.1``."""

    def spelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in flags:
            return found.group()
        on, _, off = flags[name].partition("/")
        if value in ("True", "False"):
            return off if off and value == "False" else on
        return f"{on} {quoted(value)}" if value else on

    return _NAMED.sub(spelled, message)


def print_result(result: object) -> None:
    """Print a result to standard output; it may have several lines."""
    _print("\n".join(map(harmless, str(result).split("\n"))), sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    """Print above any progress bar."""
    tqdm.write(text, file=stream)
    stream.flush()


class _LastingFile(io.FileIO):
    """An output whose failure (a full disk, a closed pipe or terminal) does not end the command."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write to the output, or to nothing once it has failed; wait if it is not ready."""
        try:
            while (written := super().write(data)) is None:
                time.sleep(0.01)
            return written
        except OSError as error:
            self.failure = error
            return len(data)


def open_streams() -> None:
    """Let the failure of the standard streams, or of a character that their encoding lacks, not end the command."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)  # without buffering (PYTHONUNBUFFERED) they are one
        if stream is None or (stream is getattr(sys, f"__{name}__") and type(raw) is io.FileIO):
            lasting = io.BufferedWriter(_LastingFile(number, "w", closefd=False))
            encoding = stream.encoding if stream else "utf-8"
            setattr(sys, name, io.TextIOWrapper(lasting, encoding, errors="replace", line_buffering=True))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def lost_results() -> str:
    """Return why results could not be printed; empty if they could, or if the reader of a pipe went away."""
    sys.stdout.flush()
    failure = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "failure", None)
    if failure is None or failure.errno == errno.EPIPE or (WINDOWS and failure.errno == errno.EINVAL):
        return ""
    return (
        f"the standard output cannot be written to: {failure.strerror}. What the command printed is lost; the files "
        "that it wrote are complete."
    )


def format_table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: tuple[int, ...] = (0,)) -> str:
    """Format a table as text, wrapped to the width of the terminal; in a pipe, lines are not wrapped.

    The columns with the indices ``left`` are left-aligned, the others right-aligned.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(heads))
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i in left else "right")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


class CommandProgress(ProgressBar):
    """A progress bar whose remarks name flags."""

    def say(self, message: str) -> None:
        """Print the remark above the bars."""
        print_remark(message)


@contextmanager
def show_progress(stopped: str = "") -> Iterator[CommandProgress]:
    """Show progress bars, and print each of the library's warnings as a single line.

    Args:
        stopped: printed when Ctrl-C or a signal ends the command, unless what ended has said so itself.
    """
    from captionless.encoders.dual_encoder import PromptCut

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module="captionless")
        warnings.filterwarnings("always", category=PromptCut)
        warnings.showwarning = lambda message, *_, **__: print_remark(f"captionless: {message}")
        try:
            yield CommandProgress()
        except KeyboardInterrupt as stop:
            if stopped and type(stop) is KeyboardInterrupt:  # a training that was stopped raises a type of its own
                print_remark(stopped)
            raise
