"""Capture what image decoders print, warn and log, so that it reaches a report instead of the terminal."""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image

from captionless.errors import shorten

MAX_NOTES = 5
"""Different complaints kept per image; libtiff can have hundreds."""
_STDERR = 2
# Warnings, logs and standard error belong to the whole process, so one image at a time is captured.
_LOCK = threading.Lock()


@contextmanager
def captured(*, stderr: bool = True) -> Iterator[list[str]]:
    """Capture Python warnings, Pillow's log and what C code writes to the standard error.

    The yielded list is filled when the block is left, also by an exception: one line per complaint, without
    repetitions, at most `MAX_NOTES`, and then the number of the others.

    Args:
        stderr: capture the standard error, too. While the block runs, this includes the output of other threads.
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
            # `decode_image` has a stricter limit of its own.
            warned = [str(w.message) for w in caught if w.category is not Image.DecompressionBombWarning]
            records = [logged.get().getMessage() for _ in range(logged.qsize())]
            lines = (" ".join(line.split()) for line in [*warned, *records, *printed])
            notes += shorten(dict.fromkeys(filter(None, lines)), MAX_NOTES, "more complaints of this kind")


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
    """Redirect the standard error of the process to a temporary file, and read it on leaving."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(_STDERR)
    except OSError:  # it is closed, so that nothing can reach a terminal
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            file.seek(0)
            lines = file.read(1_000_000).decode("utf-8", "replace").splitlines()
            # libtiff begins its lines with the name of a file that does not exist.
            printed += [line.removeprefix("tempfile.tif: ") for line in lines]
