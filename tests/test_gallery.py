"""Writing pictures that remember how they were made, and never over one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captionless.errors import CaptionlessError
from captionless.gallery import COLUMNS, MAX_ROWS, Gallery, Painted, sheet_rows


def painted(prompt: str, seed: int = 0) -> Painted:
    facts: dict[str, Any] = {"prompt": prompt, "seed": seed, "guidance": 2.0, "steps": 20, "sampler": "ddim"}
    return Painted(Image.new("RGB", (8, 8)), {**facts, "model": "bundled"})


def test_numbers_go_on_from_the_highest_even_where_some_are_missing(tmp_path: Path) -> None:
    (tmp_path / "0007.png").write_bytes(b"someone's")
    (tmp_path / "12345.png.bak").write_bytes(b"not ours")
    assert [path.name for path in Gallery(tmp_path).add([painted("a"), painted("b")])] == ["0008.png", "0009.png"]
    assert (tmp_path / "0007.png").read_bytes() == b"someone's"


def test_numbers_outgrow_four_digits(tmp_path: Path) -> None:
    (tmp_path / "9999.png").write_bytes(b"")
    assert Gallery(tmp_path).add([painted("a")])[0].name == "10000.png"
    assert Gallery(tmp_path).add([painted("a")])[0].name == "10001.png"


def test_a_manifest_without_a_last_newline_is_not_glued_to(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"file": "old.png"}')
    Gallery(tmp_path).add([painted("a")])
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_each_prompt_begins_a_row_and_long_ones_go_on_below() -> None:
    rows, labels = sheet_rows([painted("a", i) for i in range(COLUMNS + 1)] + [painted("b")])
    assert [len(row) for row in rows] == [COLUMNS, 1, 1]
    assert labels == ["a", "", "b"]


def test_a_sheet_ends_somewhere() -> None:
    rows, labels = sheet_rows([painted(str(i)) for i in range(MAX_ROWS + 5)])
    assert len(rows) == len(labels) == MAX_ROWS


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match="is a file"):
        Gallery(tmp_path / "file")
