"""Catching what decoders print, warn and log, so that it reaches a report instead of the terminal."""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image

MAX_NOTES = 5
"""Different complaints kept of one picture; libtiff can have hundreds."""
_TERMINAL = 2
# What is caught here belongs to the whole process, so only one picture at a time can be listened to.
_LOCK = threading.Lock()


@contextmanager
def captured(*, stderr: bool = True) -> Iterator[list[str]]:
    """Catch Python warnings, Pillow's log and, below Python, what C code writes to the standard error.

    The list that it yields is filled when the block is left (also by an exception): one line a complaint, each
    once, at most `MAX_NOTES`, and then how many more there were.

    Args:
        stderr: catch what C code writes as well. While the block runs, other threads' writing is caught too.
    """
    notes: list[str] = []
    printed: list[str] = []
    logged: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    with _LOCK, ExitStack() as stack:
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.enter_context(_pillow_log(logged))
        if stderr:
            stack.enter_context(_standard_error(printed))
        try:
            yield notes
        finally:
            stack.close()
            # A large picture within our own, stricter limit needs no remark.
            warned = [str(w.message) for w in caught if w.category is not Image.DecompressionBombWarning]
            records = [logged.get().getMessage() for _ in range(logged.qsize())]
            notes += _shortened([*warned, *records, *printed])


@contextmanager
def _pillow_log(records: queue.SimpleQueue[logging.LogRecord]) -> Iterator[None]:
    logger = logging.getLogger("PIL")
    handler = logging.handlers.QueueHandler(records)
    handler.setLevel(logging.WARNING)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)


@contextmanager
def _standard_error(printed: list[str]) -> Iterator[None]:
    """Point the process's standard error at a file; on leaving, point it back and read the file."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(_TERMINAL)
    except OSError:  # it is closed: nothing can reach a terminal
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _TERMINAL)
        try:
            yield
        finally:
            os.dup2(kept, _TERMINAL)
            os.close(kept)
            file.seek(0)
            printed += file.read(1_000_000).decode("utf-8", "replace").splitlines()


def _shortened(lines: Iterable[str]) -> list[str]:
    """Each complaint once, on one line, and no more of them than a person reads."""
    # libtiff begins its lines with the name of a file that never existed.
    tidy = (" ".join(line.removeprefix("tempfile.tif: ").split()) for line in lines)
    different = list(dict.fromkeys(line for line in tidy if line))
    if len(different) <= MAX_NOTES:
        return different
    return [*different[:MAX_NOTES], f"and {len(different) - MAX_NOTES} more complaints of this kind"]
