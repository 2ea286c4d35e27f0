"""Define ``CaptionlessError``, the exception for problems that the user can solve.

Its messages say in plain sentences what is wrong, where, and what to do next. Parameters appear in backticks under
their Python names, and suggestions as assignments: "`hold_out` must be below 1, not 1.5. Try `hold_out=0.1`." The
command line converts both to flags (``--hold-out``, ``--hold-out 0.1``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 10_000
"""Characters of a message from which on its middle is left out; two paths are as long as systems allow."""
_CONTROLS = [*range(32), *range(127, 160), 0x2028, 0x2029]
_DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # Unicode Standard Annex 9
_SURROGATES = range(0xD800, 0xE000)  # no text can hold them; in names, they are bytes that are not UTF-8
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in (*_CONTROLS, *_DIRECTIONS, *_SURROGATES)}


def harmless(text: str) -> str:
    """Replace what no text should hold by escapes such as ``\\x1b``: control characters, marks of direction, bytes."""
    return text.translate(_ESCAPES)


class CaptionlessError(Exception):
    """A problem that the user can solve; the command line prints it and exits with code 2.

    Any other exception that reaches the user is a bug.

    Args:
        message: one line that says what is wrong, where, and what to do next.
        parameter: Python name of the invalid parameter.
        value: value given for the parameter.
        code: machine-readable kind of problem, such as ``invalid_setting`` or ``unknown_setting``.
    """

    def __init__(
        self, message: str, *, parameter: str | None = None, value: Any = None, code: str | None = None
    ) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 4 :]}"
        super().__init__(harmless(message))  # names of files may hold anything
        self.parameter, self.value, self.code = parameter, value, code


def one_of(parameter: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``CaptionlessError`` unless ``value`` is one of the ``choices``."""
    if value not in choices:
        raise CaptionlessError(
            f"`{parameter}` must be one of {', '.join(choices)}, not {value!r}.",
            parameter=parameter,
            value=value,
            code="invalid_setting",
        )


def shorten(items: Iterable[str], most: int, rest: str = "more") -> list[str]:
    """Truncate a list to ``most`` items, followed by ``and N more`` (or another ``rest``) if any are left out."""
    items = list(items)
    return items if len(items) <= most else [*items[:most], f"and {len(items) - most:,} {rest}"]
