"""The contract of generation.writer: images with their metadata in a folder, and no file replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.image import GeneratedImage
from captionless.generation.trajectory import Frame, Trajectory
from captionless.generation.writer import ImageWriter
from platforms import KILLS


def square() -> Image.Image:
    return Image.new("RGB", (8, 8))


def sampled(prompt: str, seed: int = 0, **details: Any) -> GeneratedImage:
    return GeneratedImage(
        square(), prompt, seed, SamplingConfig(guidance_interval=(0.0, 0.5)), {"model": "bundled", **details}
    )


def test_numbers_go_on_from_the_highest_even_where_some_are_missing(tmp_path: Path) -> None:
    (tmp_path / "0007.png").write_bytes(b"someone's")
    (tmp_path / "12345.png.bak").write_bytes(b"not ours")
    assert [ImageWriter(tmp_path).add(sampled(text)).name for text in "ab"] == ["0008.png", "0009.png"]
    assert (tmp_path / "0007.png").read_bytes() == b"someone's"


def test_numbers_outgrow_four_digits(tmp_path: Path) -> None:
    (tmp_path / "9999.png").write_bytes(b"")
    assert ImageWriter(tmp_path).add(sampled("a")).name == "10000.png"
    assert ImageWriter(tmp_path).add(sampled("a")).name == "10001.png"


def test_a_manifest_without_a_last_newline_is_not_glued_to(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"file": "old.png"}')
    ImageWriter(tmp_path).add(sampled("a"))
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_what_another_process_appended_to_the_manifest_meanwhile_is_kept(tmp_path: Path) -> None:
    here, there = ImageWriter(tmp_path), ImageWriter(tmp_path)
    for writer in (here, there, here):
        writer.add(sampled("a"))
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["0001.png", "0002.png", "0003.png"]


def test_numbers_that_another_process_takes_meanwhile_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        ImageWriter(tmp_path).add(sampled("theirs"))
    ImageWriter(tmp_path).add_grid(square())
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    monkeypatch.setattr(ImageWriter, "_next", lambda *_: 1)  # as seen before they wrote
    assert ImageWriter(tmp_path).add(sampled("ours")).name == "0003.png"
    assert ImageWriter(tmp_path).add_grid(square()).name == "grid-0002.png"
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_many_at_once_write_all_their_images(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda i: [ImageWriter(tmp_path).add(sampled(str(i))) for _ in range(3)], range(8)))
    names = {path.name for paths in written for path in paths}
    assert names == {path.name for path in tmp_path.glob("*.png")} == {f"{i:04d}.png" for i in range(1, 25)}
    for line in (tmp_path / "manifest.jsonl").read_text().splitlines():
        fact = json.loads(line)
        with Image.open(tmp_path / fact["file"]) as image:
            assert image.info["prompt"] == fact["prompt"]


def test_names_in_capitals_count_as_taken(tmp_path: Path) -> None:
    (tmp_path / "0004.PNG").touch()
    (tmp_path / "Grid-0002.png").touch()
    assert ImageWriter(tmp_path).add(sampled("a")).name == "0005.png"
    assert ImageWriter(tmp_path).add_grid(square()).name == "grid-0003.png"


@pytest.mark.parametrize("method", ["iterdir", "open", "exists"])
def test_a_folder_that_may_not_be_read_is_named_in_one_line(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(CaptionlessError, match=rf"^cannot .* {tmp_path}: Permission denied\.[^\n]*`out`\.$"):
        ImageWriter(tmp_path).add(sampled("a"))


def test_an_image_and_its_line_of_the_manifest_hold_the_same_metadata(tmp_path: Path) -> None:
    image = sampled("a daisy", 3, also=[["a röse", 0.5]], like="tulip.jpg")
    path = ImageWriter(tmp_path).add(image)
    with Image.open(path) as opened:
        told = dict(opened.text)  # type: ignore[attr-defined]
    assert told["also"] == '[["a röse", 0.5]]'
    assert (told["prompt"], told["seed"], told["guidance_interval"], told["like"]) == (
        "a daisy",
        "3",
        "[0.0, 0.5]",
        "tulip.jpg",
    )
    assert "eta" not in told
    (line,) = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == json.loads(json.dumps({"file": "0001.png", **image.metadata}))


def test_file_names_that_are_no_text_are_recorded_as_codes(tmp_path: Path) -> None:
    path = ImageWriter(tmp_path).add(sampled("a", like="caf\udce9.jpg"))
    with Image.open(path) as image:
        assert image.info["like"] == r"caf\udce9.jpg"
    assert json.loads((tmp_path / "manifest.jsonl").read_text())["like"] == "caf\udce9.jpg"


def test_a_trajectory_is_named_after_its_image_whose_number_it_then_holds(tmp_path: Path) -> None:
    writer, steps = ImageWriter(tmp_path), Trajectory((Frame(0, 1.0, square(), square()),))
    path = writer.add(replace(sampled("a"), trajectory=steps))
    names = {"0001.png", "0001-trajectory.png", "0001-trajectory.gif", "manifest.jsonl"}
    assert {file.name for file in tmp_path.iterdir()} == names
    path.unlink()
    assert writer.add(sampled("b")).name == "0002.png"
    (tmp_path / "0007-trajectory.gif").touch()
    assert writer.add(sampled("b")).name == "0008.png"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match="is a file"):
        ImageWriter(tmp_path / "file")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_no_image_is_left_without_its_line_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    writer = ImageWriter(tmp_path)
    writer.add(sampled("a"))
    before = (tmp_path / "manifest.jsonl").read_bytes()
    real = Path.open

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "manifest.jsonl":
            raise error
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises((CaptionlessError, KeyboardInterrupt)):
        writer.add(sampled("b"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.png", "manifest.jsonl"]
    monkeypatch.undo()
    assert (tmp_path / "manifest.jsonl").read_bytes() == before


@KILLS
def test_an_image_appears_whole_and_a_killed_writer_leaves_nothing_that_the_next_does_not_sweep(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom PIL import Image\nfrom captionless.files import write_new\nfrom pathlib import Path\n"
        "def half(path):\n    path.write_bytes(b'half'); os._exit(9)\n"
        "write_new([Path(sys.argv[1], '0001.png')], half)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 1
    assert ImageWriter(tmp_path).add(sampled("a")).name == "0001.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.png", "manifest.jsonl"]


def test_on_windows_the_manifest_is_locked_while_a_line_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = []
    fake = SimpleNamespace(LK_LOCK=1, locking=lambda number, mode, count: locked.append((mode, count)))
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr("sys.platform", "win32")
    writer = ImageWriter(tmp_path)
    for prompt in "ab":
        writer.add(sampled(prompt))
    lines = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["a", "b"]
    assert locked == [(1, 1)] * 2
