"""The one exception that a person is meant to read."""


class CaptionlessError(Exception):
    """A problem the user can mend.

    ``str(error)`` is one line that says what is wrong, where, and what to do next. The command line prints
    it and exits with code 2; Python callers may catch it. Everything else that escapes is a bug of ours.
    """
