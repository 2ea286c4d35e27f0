"""Capture the warnings and output of image decoders for a report, instead of showing them on the terminal."""

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
"""Maximum number of distinct messages kept per image; libtiff can print hundreds."""
_STDERR = 2
# Warning filters and stderr are global to the process, so only one image is captured at a time.
_LOCK = threading.Lock()


@contextmanager
def captured(*, stderr: bool = True) -> Iterator[list[str]]:
    """Capture Python warnings, and what loggers or C libraries such as libtiff write to stderr.

    The yielded list is filled when the block exits, even after an exception. It contains one line per distinct message,
    at most `MAX_NOTES` of them, followed by the number of omitted messages.

    Args:
        stderr: also capture stderr; this includes the output of other threads while the block runs.
    """
    notes: list[str] = []
    printed: list[str] = []
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with _standard_error(printed) if stderr else nullcontext():
                yield notes
        finally:
            # `decode_image` enforces a stricter limit.
            warned = [str(w.message) for w in caught if w.category is not Image.DecompressionBombWarning]
            lines = [" ".join(line.split()) for line in [*warned, *printed] if line.strip()]
            notes += shorten(dict.fromkeys(lines), MAX_NOTES, "more messages")


@contextmanager
def _standard_error(printed: list[str]) -> Iterator[None]:
    """Redirect the stderr of the process to a temporary file, and read the file when the block exits."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:  # there is no folder for it, or the disk is full
        yield
        return
    kept = os.dup(_STDERR)
    with file:
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            file.seek(0)
            lines = file.read(1_000_000).decode("utf-8", "replace").splitlines()
            # libtiff prefixes its lines with a placeholder file name.
            printed += [line.removeprefix("tempfile.tif: ") for line in lines]
