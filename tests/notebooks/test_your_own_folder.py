"""The notebook for Colab runs from its first cell to its last."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
from nbclient import NotebookClient
from PIL import Image

SOURCE = Path(__file__).parents[2] / "notebooks" / "your_own_folder.py"
FLOWERS = Path(__file__).parents[2] / "examples" / "flowers"


def test_an_upload_that_is_no_archive_ends_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rose.zip").write_bytes(b"PK")
    files = SimpleNamespace(upload=lambda: ["rose.zip"])
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(files=files))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOLDER", raising=False)
    (code,) = (cell.source for cell in jupytext.read(SOURCE).cells if "unpack_archive" in cell.source)
    with pytest.raises(SystemExit, match=r"^rose\.zip cannot be unpacked .* Upload a \.zip file of your images\.$"):
        exec(code, {})


@pytest.mark.slow
def test_the_notebook_makes_a_model_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in [path for kind in ("rose", "daisy") for path in sorted((FLOWERS / kind).glob("*.jpg"))[:10]]:
        (tmp_path / "photos" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "photos" / path.parent.name)
    for name, value in {"FOLDER": "photos", "MINUTES": "0.1", "CAPTIONLESS_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    notebook = jupytext.read(SOURCE)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert (
        sum("image/png" in output.get("data", {}) for output in outputs) == 2
    )  # the last sample grid, and the prompts
    assert "a photo of a rose" in (tmp_path / "my-model" / "README.md").read_text(encoding="utf-8")
    with Image.open(tmp_path / "my-model" / "examples" / "1.png") as image:
        assert image.size[0] == image.size[1]
