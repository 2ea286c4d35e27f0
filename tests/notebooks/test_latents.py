"""The notebook of latents runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

import encoder_factory
import latent_cases
from training_cases import save_photos

SOURCE = Path(__file__).parents[2] / "notebooks" / "latents.py"


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
