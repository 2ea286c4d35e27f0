"""Capture what image decoders print and warn, so that it reaches a report instead of the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from PIL import Image

from captionless.errors import shorten

MAX_NOTES = 5
"""Different complaints kept per image; libtiff can have hundreds."""
_STDERR = 2
# Warnings and standard error belong to the whole process, so one image at a time is captured.
_LOCK = threading.Lock()


@contextmanager
def captured(*, stderr: bool = True) -> Iterator[list[str]]:
    """Capture Python warnings and what C code (libtiff) or a log writes to the standard error.

    The yielded list is filled when the block is left, also by an exception: one line per complaint, without
    repetitions, at most `MAX_NOTES`, and then the number of the others.

    Args:
        stderr: capture the standard error, too. While the block runs, this includes the output of other threads.
    """
    notes: list[str] = []
    printed: list[str] = []
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with _standard_error(printed) if stderr else nullcontext():
                yield notes
        finally:
            # `decode_image` has a stricter limit of its own.
            warned = [str(w.message) for w in caught if w.category is not Image.DecompressionBombWarning]
            lines = [" ".join(line.split()) for line in [*warned, *printed] if line.strip()]
            notes += shorten(dict.fromkeys(lines), MAX_NOTES, "more complaints of this kind")


@contextmanager
def _standard_error(printed: list[str]) -> Iterator[None]:
    """Redirect the standard error of the process to a temporary file, and read it on leaving."""
    if sys.stderr is not None:
        sys.stderr.flush()
    kept = os.dup(_STDERR)
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
