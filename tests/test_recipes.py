"""The scripts of `recipes/` import: every name that they take from the library is there."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
SCRIPTS = sorted(path for path in RECIPES.rglob("*.py") if path.name != "notebook.py")  # that one installs and runs


def names_of(script: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a script as an import would, and return its names."""
    monkeypatch.syspath_prepend(script.parent)
    before = set(sys.modules)
    try:
        return runpy.run_path(str(script), run_name="recipe")
    finally:
        # Modules of different recipes have the same names.
        for name in set(sys.modules) - before:
            if str(RECIPES) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(RECIPES)))
def test_a_script_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names_of(script, monkeypatch)["__doc__"]


def test_the_rows_of_the_ablations_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    names = names_of(RECIPES / "ablations" / "ablate.py", monkeypatch)
    assert "default/all defaults" in names["rows"]()
