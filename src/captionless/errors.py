"""The one exception that a person is meant to read, and the commonest reason to raise it."""


class CaptionlessError(Exception):
    """A problem the user can mend.

    ``str(error)`` is one line that says what is wrong, where, and what to do next. The command line prints
    it and exits with code 2; Python callers may catch it. Everything else that escapes is a bug of ours.
    """


def one_of(what: str, name: str, known: tuple[str, ...]) -> None:
    """Raise unless ``name`` is among the known names of ``what``."""
    if name not in known:
        raise CaptionlessError(f"there is no {what} {name!r}. Choose one of: {', '.join(known)}.")
