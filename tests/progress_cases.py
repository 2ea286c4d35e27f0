"""A ``Progress`` that remembers what was reported, for tests."""

from __future__ import annotations


class Recorded:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.advanced: list[tuple[str, int, int]] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def advance(self, task: str, done: int, total: int) -> None:
        self.advanced.append((task, done, total))
