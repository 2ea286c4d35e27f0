"""Explain exceptions that nothing else has explained: files that the system refuses, and bugs."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback

from captionless._version import __version__
from captionless.device import is_out_of_memory

_SYSTEM = frozenset(
    getattr(errno, name)
    for name in "EIO EACCES EPERM ENOSPC EDQUOT EROFS EMFILE ENFILE ESTALE EBUSY ETIMEDOUT ENOTCONN EREMOTEIO".split()  # noqa: SIM905
    if hasattr(errno, name)
)
"""Numbers of errors that are the fault of a disk, a network folder, permissions or limits, wherever they occur."""
_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN})


def explain(error: Exception) -> tuple[str, int]:
    """Return a line about an exception, and the exit code."""
    if is_out_of_memory(error):
        return "there is not enough memory. Choose a smaller `batch` or `size`, or end other programs.", 2
    if isinstance(error, OSError) and error.filename is not None and error.errno in _SYSTEM:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}. Check the disk and your permissions.", 2
    if (isinstance(error, OSError) and error.errno in _LIMITS) or "can't start new thread" in str(error):
        return (
            f"the system grants no more files, threads or processes ({error}). Raise their limits (`ulimit -n`, "
            "`ulimit -u`), or end other programs."
        ), 2
    return report_bug(error), 70


def report_bug(error: Exception) -> str:
    """Write the traceback of an unexpected exception to a new temporary file; return a line that names the file."""
    about = f"captionless {__version__}, Python {platform.python_version()}, {platform.platform()}"
    text = "\n".join([about, shlex.join(sys.argv), "", *traceback.format_exception(error)])
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    try:
        handle, path = tempfile.mkstemp(prefix="captionless-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as failure:
        return f"this is a bug in captionless ({what}); its traceback cannot be written: {failure}."
    return f"this is a bug in captionless ({what}). Please report it with the file {path}, which has its traceback."
