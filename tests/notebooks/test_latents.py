"""The notebook of latents is the source beside it, and runs from its first cell to its last."""

from __future__ import annotations

import json
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

import encoder_factory
import latent_cases
from training_cases import save_photos

SOURCE = Path(__file__).parents[2] / "notebooks" / "latents.py"


def test_the_notebook_holds_the_source() -> None:
    notebook = json.loads(SOURCE.with_suffix(".ipynb").read_text(encoding="utf-8"))
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert found == [(cell.cell_type, cell.source) for cell in jupytext.read(SOURCE).cells], (
        "the source has changed: run `jupytext --to ipynb notebooks/latents.py`"
    )
    assert notebook["metadata"]["accelerator"] == "GPU"
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.slow
def test_the_notebook_makes_a_model_with_a_stand_in_for_taesd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_photos(tmp_path / "photos")
    encoder_factory.small_pair(tmp_path / "encoder")
    latent_cases.autoencoder(tmp_path / "taesd")
    given = {"FOLDER": "photos", "ENCODER": "encoder", "AUTOENCODER": "taesd", "SIZE": "64", "MINUTES": "0.05"}
    for name, value in (given | {"CAPTIONLESS_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    notebook = jupytext.read(SOURCE)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert (tmp_path / "my-model" / "autoencoder" / "LICENSE.md").is_file()
