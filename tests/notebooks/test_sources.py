"""Each notebook is the source beside it, without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import jupytext
import pytest

SOURCES = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


def test_there_are_notebooks() -> None:
    assert [source.stem for source in SOURCES] == ["latents", "your_own_folder"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_notebook_holds_the_source(source: Path) -> None:
    notebook = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert found == [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells], (
        f"the source has changed: run `jupytext --to ipynb notebooks/{source.name}`"
    )
    assert notebook["metadata"]["accelerator"] == "GPU"
    assert not any(cell.get("outputs") for cell in notebook["cells"])
