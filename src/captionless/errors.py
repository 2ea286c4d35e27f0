"""The one exception that a person is meant to read, and helpers for messages."""

from __future__ import annotations

from collections.abc import Iterable


class CaptionlessError(Exception):
    """A problem the user can mend.

    ``str(error)`` is one line that says what is wrong, where, and what to do next. The command line prints
    it and exits with code 2; Python callers may catch it. Everything else that escapes is a bug of ours.
    """


def one_of(what: str, name: str, known: tuple[str, ...]) -> None:
    """Raise unless ``name`` is among the known names of ``what``."""
    if name not in known:
        raise CaptionlessError(f"there is no {what} {name!r}. Choose one of: {', '.join(known)}.")


def shorten(items: Iterable[str], most: int, rest: str = "more") -> list[str]:
    """Return the first ``most`` items; if there are more, followed by ``and N more`` (or another ``rest``)."""
    items = list(items)
    return items if len(items) <= most else [*items[:most], f"and {len(items) - most:,} {rest}"]
