"""Read text in bounded memory: devices such as /dev/zero never end, and a sparse file has any size it likes.

Text is written as files are, atomically.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from captionless.files import atomic_write

MAX_TEXT = 100_000_000
"""Bytes of the longest text that is read as a whole; also of the longest text that comes from a device or a FIFO."""
MAX_LINE = 10_000_000
"""Characters of the longest line."""


def read_text(source: str | Path | BinaryIO, errors: str = "strict") -> str:
    """Return the content of a UTF-8 file; ``errors`` is that of ``bytes.decode``.

    Raises:
        OSError: the file cannot be read, or is too long.
        ValueError: it is not UTF-8 text, or there is a zero byte in its path.
    """
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise OSError(errno.EFBIG, f"it has more than {MAX_TEXT:,} bytes")
    return data.decode("utf-8-sig", errors)


def read_lines(path: str | Path, longest: int = MAX_LINE) -> Iterator[str]:
    """Yield the lines of a UTF-8 file with their endings; ``longest`` is the most characters of one.

    Raises:
        OSError: the file cannot be read, a line is too long, or what is no regular file does not end.
        ValueError: it is not UTF-8 text, or there is a zero byte in its path.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        left = None if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else MAX_TEXT
        while line := file.readline(longest):
            if len(line) == longest:
                raise OSError(errno.EFBIG, f"a line is longer than {longest:,} characters")
            if left is not None and (left := left - len(line)) < 0:
                raise OSError(errno.EFBIG, f"it has more than {MAX_TEXT:,} bytes")
            yield line


def read_json(path: str | Path) -> Any:
    """Return the value in a JSON file; raise as in `read_text`, or ``ValueError`` if it is not JSON."""
    return parse_json(read_text(path))


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_text(path: str | Path, text: str, errors: str = "strict") -> None:
    """Write a UTF-8 file atomically, with the same bytes on every system; ``errors`` is that of ``str.encode``.

    Raises:
        CaptionlessError: as in `atomic_write`.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors, newline="\n")
