"""Report the progress of long work: one protocol for reading, embedding, training and evaluating."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what long work reports; the command line draws it, ``Silent`` drops it."""

    def say(self, message: str) -> None:
        """Show a remark, one line that is worth reading afterwards."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of a task, named for people, are complete."""


class Silent:
    """A ``Progress`` that reports nothing."""

    def say(self, message: str) -> None:
        """Drop the remark."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Drop the report."""
