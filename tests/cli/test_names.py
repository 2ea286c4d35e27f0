"""Names are shown on the terminal, printed in commands and written into tables without doing anything there."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import image_zoo as zoo

NAMES = ["\x1b[31mred/1.png", "=class/2.png", "\u202eplain/3.png", "plain/=4.png"]
SHORT = ["--classes", "--images", "4", "--size", "8", "--width", "16", "--batch", "4", "--precision", "float32"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zoo.encoded(zoo.noise(8, seed=i), "PNG"))
    (tmp_path / "photos" / "\x1b]0;title\x07\nnotes.txt").write_text("no picture")
    return tmp_path / "photos"


def test_names_do_nothing_where_they_are_shown(
    run: Callable[..., int], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "with space"
    assert run("train", "photos", "--out", "with space", *SHORT) == 0
    assert run("info", "photos") == 0
    assert run("info", "with space") == 0
    assert run("generate", "--model", "with space", "--class", "zzz") == 2
    printed, told = capsys.readouterr()
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in printed + told
    assert r"\x1b[31mred" in printed
    assert r"skipped \x1b]0;title\x07\nnotes.txt: not an image" in told
    for page in (told, (out / "README.md").read_text("utf-8")):
        command = next(line for line in page.splitlines() if "captionless generate" in line)
        assert shlex.split(command)[-3:-1] == ["with space", "--class"]
    for table in out.glob("*.csv"):
        with io.StringIO(table.read_text("utf-8"), newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))]
    assert run("train", "./photos/", "--out", f"{out}/", *SHORT[1:], "--resume", "--images", "8") == 0
