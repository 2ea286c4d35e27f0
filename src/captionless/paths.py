"""Take paths from users, and show names to them, in a shell and on a terminal."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from captionless.errors import CaptionlessError

_CONTROLS = [*range(32), *range(127, 160), 0x2028, 0x2029]
_DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # Unicode Standard Annex 9
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in (*_CONTROLS, *_DIRECTIONS)}


def user_path(path: str | Path) -> Path:
    """Return a path that a user gave, with ``~`` expanded; it need not exist.

    Raises:
        CaptionlessError: the system refuses to say whether it exists.
    """
    expanded = os.path.expanduser(path)
    try:
        os.stat(expanded)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a locked folder, a name that is too long, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise CaptionlessError(f"cannot use the path {path}: {reason}. Check it and its permissions.") from error
    return Path(expanded)


def same_path(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths, however they are spelled, lead to the same place."""
    one, other = (os.path.realpath(os.path.expanduser(path)) for path in (one, other))
    return one == other


def quoted(text: object) -> str:
    """Quote a text for a POSIX shell, with escapes for what a terminal would not show (in bash and zsh)."""
    text = str(text)
    if text.isprintable():
        return shlex.quote(text)
    signs = (sign if sign.isprintable() and sign not in "\\'" else _bytes(sign) for sign in text)
    return f"$'{''.join(signs)}'"


def _bytes(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in sign.encode("utf-8", "surrogateescape"))


def harmless(text: str) -> str:
    """Replace control characters, and those that change the direction of writing, by escapes such as ``\\x1b``."""
    return text.translate(_ESCAPES)
