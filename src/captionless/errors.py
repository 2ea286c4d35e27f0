"""The one exception that users are meant to read.

How its messages are written: what is wrong, where, and what to do next, in plain sentences. A parameter stands in
backticks, spelled as in Python, and a suggestion as an assignment: "`hold_out` must be below 1, not 1.5. Try
`hold_out=0.1`." The command line turns both into its own spelling (``--hold-out``, ``--hold-out 0.1``); nothing else in
the package knows about flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class CaptionlessError(Exception):
    """A problem that the user can solve; the command line prints it and exits with code 2.

    Any other exception that escapes is a bug.

    Args:
        message: one line that says what is wrong, where, and what to do next.
        parameter: name of the parameter that is at fault, as Python spells it.
        value: what was given for it.
        code: short name of the kind of problem, for programs: ``invalid_setting``, ``unknown_setting``, …
    """

    def __init__(
        self, message: str, *, parameter: str | None = None, value: Any = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.parameter, self.value, self.code = parameter, value, code


def one_of(parameter: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless the ``value`` of a parameter is among its ``choices``."""
    if value not in choices:
        raise CaptionlessError(
            f"`{parameter}` must be one of {', '.join(choices)}, not {value!r}.",
            parameter=parameter,
            value=value,
            code="invalid_setting",
        )


def shorten(items: Iterable[str], most: int, rest: str = "more") -> list[str]:
    """Return the first ``most`` items; if there are more, followed by ``and N more`` (or another ``rest``)."""
    items = list(items)
    return items if len(items) <= most else [*items[:most], f"and {len(items) - most:,} {rest}"]
