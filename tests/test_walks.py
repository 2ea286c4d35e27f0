"""The two walks of CONTRIBUTING.md lead through the code as it is."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"^(?P<indent> *)\d+\. `(?P<name>[\w.]+)`", re.MULTILINE)
WALKS = re.findall(r"^### (.+?)\n(.+?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)


def found(name: str) -> Callable[..., Any]:
    """Return the function, class or method of this dotted name within the package."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            place: Any = importlib.import_module("captionless." + ".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            place = getattr(place, part)
        return place
    raise AssertionError(f"{name} is in no module of captionless")


def calls(text: str) -> list[tuple[str, str]]:
    """Return (caller, called) for every step that is indented below another."""
    pairs, above = [], list[tuple[int, str]]()
    for step in STEP.finditer(text):
        depth, name = len(step["indent"]), step["name"]
        above = [(other, caller) for other, caller in above if other < depth]
        if above:
            pairs.append((above[-1][1], name))
        above.append((depth, name))
    return pairs


def test_there_are_two_walks_of_many_steps() -> None:
    assert len(WALKS) == 2
    assert all(len(STEP.findall(text)) >= 10 for _, text in WALKS)


@pytest.mark.parametrize(("caller", "called"), [pair for _, text in WALKS for pair in calls(text)])
def test_each_step_of_a_walk_is_in_the_source_of_the_step_above_it(caller: str, called: str) -> None:
    assert callable(found(called))
    assert re.search(rf"\b{called.split('.')[-1]}\b", inspect.getsource(found(caller)))
