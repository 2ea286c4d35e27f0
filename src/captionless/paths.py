"""Take paths from users, and quote names for their shell."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path

from captionless.errors import CaptionlessError

WINDOWS = os.name == "nt"
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


def user_path(path: str | Path) -> Path:
    """Return a path that a user gave, with ``~`` expanded; it need not exist.

    Raises:
        CaptionlessError: the system refuses to say whether it exists, or it is not UTF-8, which safetensors needs.
    """
    expanded = os.path.expanduser(path)
    try:
        os.fspath(expanded).encode()
        os.stat(expanded)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnicodeEncodeError as error:
        raise CaptionlessError(f"cannot use the path {path}: it is not valid UTF-8. Rename it.") from error
    except (OSError, ValueError) as error:  # a locked folder, a name that is too long, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise CaptionlessError(f"cannot use the path {path}: {reason}. Check it and its permissions.") from error
    return Path(expanded)


def kind_of(path: str | Path) -> str:
    """Return what is at a path in words, such as "a folder"; "nothing" if there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "a broken link" if os.path.islink(path) else "nothing"
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def is_vacant(path: Path) -> bool:
    """Return whether there is nothing at a path but perhaps an empty folder, so that a folder can be written there."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def same_path(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths, however they are spelled, lead to the same place."""
    one, other = (os.path.realpath(os.path.expanduser(path)) for path in (one, other))
    return one == other


def quoted(text: object) -> str:
    """Quote a text for a POSIX shell, with escapes for what a terminal would not show (in bash and zsh).

    On Windows the quotes are those that its shells have in common.
    """
    text = str(text)
    if WINDOWS:
        return subprocess.list2cmdline([text])
    if text.isprintable():
        return shlex.quote(text)
    signs = (sign if sign.isprintable() and sign not in "\\'" else _bytes(sign) for sign in text)
    return f"$'{''.join(signs)}'"


def _bytes(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in sign.encode("utf-8", "surrogateescape"))
