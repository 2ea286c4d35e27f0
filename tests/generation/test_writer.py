"""Writing pictures that remember how they were made, and never over one another."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captionless.errors import CaptionlessError
from captionless.generation.writer import COLUMNS, MAX_ROWS, ImageWriter, Painted, sheet_limit, sheet_rows, sweep_limit


def sampled(prompt: str, seed: int = 0, **more: Any) -> Painted:
    facts: dict[str, Any] = {"prompt": prompt, "seed": seed, "guidance": 2.0, "steps": 20, "sampler": "ddim"}
    return Painted(Image.new("RGB", (8, 8)), {**facts, "model": "bundled", **more})


def test_numbers_go_on_from_the_highest_even_where_some_are_missing(tmp_path: Path) -> None:
    (tmp_path / "0007.png").write_bytes(b"someone's")
    (tmp_path / "12345.png.bak").write_bytes(b"not ours")
    assert [path.name for path in ImageWriter(tmp_path).add([sampled("a"), sampled("b")])] == ["0008.png", "0009.png"]
    assert (tmp_path / "0007.png").read_bytes() == b"someone's"


def test_numbers_outgrow_four_digits(tmp_path: Path) -> None:
    (tmp_path / "9999.png").write_bytes(b"")
    assert ImageWriter(tmp_path).add([sampled("a")])[0].name == "10000.png"
    assert ImageWriter(tmp_path).add([sampled("a")])[0].name == "10001.png"


def test_a_manifest_without_a_last_newline_is_not_glued_to(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"file": "old.png"}')
    ImageWriter(tmp_path).add([sampled("a")])
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_what_another_process_appended_to_the_manifest_meanwhile_is_kept(tmp_path: Path) -> None:
    here, there = ImageWriter(tmp_path), ImageWriter(tmp_path)
    for gallery in (here, there, here):
        gallery.add([sampled("a")])
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["0001.png", "0002.png", "0003.png"]


def test_numbers_that_another_process_takes_meanwhile_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageWriter(tmp_path).add([sampled("theirs"), sampled("theirs")])
    ImageWriter(tmp_path).add_sheet([sampled("theirs")], 1)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    monkeypatch.setattr(ImageWriter, "_next", lambda *_: 1)  # as seen before they wrote
    assert ImageWriter(tmp_path).add([sampled("ours")])[0].name == "0003.png"
    assert ImageWriter(tmp_path).add_sheet([sampled("ours")], 1).name == "sheet-0002.png"
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_many_at_once_write_all_their_images(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda i: ImageWriter(tmp_path).add([sampled(str(i))] * 3), range(8)))
    names = {path.name for paths in written for path in paths}
    assert names == {path.name for path in tmp_path.glob("*.png")} == {f"{i:04d}.png" for i in range(1, 25)}
    for line in (tmp_path / "manifest.jsonl").read_text().splitlines():
        fact = json.loads(line)
        with Image.open(tmp_path / fact["file"]) as image:
            assert image.info["prompt"] == fact["prompt"]


def test_names_in_capitals_count_as_taken(tmp_path: Path) -> None:
    (tmp_path / "0004.PNG").touch()
    (tmp_path / "Sheet-0002.png").touch()
    assert ImageWriter(tmp_path).add([sampled("a")])[0].name == "0005.png"
    assert ImageWriter(tmp_path).add_sheet([sampled("a")], 1).name == "sheet-0003.png"


def test_what_was_written_before_the_disk_filled_is_in_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = Image.Image.save, itertools.count(1)

    def filling(image: Image.Image, *args: Any, **named: Any) -> None:
        if next(saved) == 3:
            raise OSError(28, "No space left on device")
        save(image, *args, **named)

    monkeypatch.setattr(Image.Image, "save", filling)
    with pytest.raises(CaptionlessError, match="No space left"):
        ImageWriter(tmp_path).add([sampled(word) for word in "abcd"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.png", "0002.png", "manifest.jsonl"]
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["a", "b"]


@pytest.mark.parametrize("method", ["iterdir", "open", "exists"])
def test_a_folder_that_may_not_be_read_is_named_in_one_line(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(CaptionlessError, match=rf"^cannot .* {tmp_path}: Permission denied\.[^\n]*--out\.$"):
        ImageWriter(tmp_path).add([sampled("a")])


def test_a_image_carries_every_fact_as_text_and_its_line_of_the_manifest_says_the_same(tmp_path: Path) -> None:
    facts = {"also": [["a röse", 0.5]], "interval": [0.0, 0.5], "eta": None, "like": "tulip.jpg"}
    (path,) = ImageWriter(tmp_path).add([sampled("a daisy", 3, **facts)])
    with Image.open(path) as image:
        told = dict(image.text)  # type: ignore[attr-defined]
    assert told["also"] == '[["a röse", 0.5]]'
    assert (told["prompt"], told["seed"], told["interval"], told["like"]) == ("a daisy", "3", "[0.0, 0.5]", "tulip.jpg")
    assert "eta" not in told
    (line,) = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"file": "0001.png", **sampled("a daisy", 3, **facts).facts}


def test_file_names_that_are_no_text_are_recorded_as_codes(tmp_path: Path) -> None:
    (path,) = ImageWriter(tmp_path).add([sampled("a", like="caf\udce9.jpg")])
    with Image.open(path) as image:
        assert image.info["like"] == r"caf\udce9.jpg"
    assert json.loads((tmp_path / "manifest.jsonl").read_text())["like"] == "caf\udce9.jpg"


def test_a_film_is_named_after_its_image_whose_number_it_then_holds(tmp_path: Path) -> None:
    gallery = ImageWriter(tmp_path)
    (path,) = gallery.add([sampled("a")])
    still, moving = gallery.add_film(path, Image.new("RGB", (8, 8)), b"GIF89a")
    assert (still.name, moving.name) == ("0001-film.png", "0001-film.gif")
    assert moving.read_bytes() == b"GIF89a"
    path.unlink()
    assert gallery.add([sampled("b")])[0].name == "0002.png"
    still.unlink()
    (tmp_path / "0007-film.gif").touch()
    assert gallery.add([sampled("b")])[0].name == "0008.png"


@pytest.mark.parametrize(
    ("facts", "title", "subtitle"),
    [
        ({}, "a rose", "seed 7"),
        ({"then": "a daisy"}, "a rose … then a daisy", "seed 7"),
        ({"towards": "a daisy", "towards_share": 0.5}, "a rose … towards a daisy", "50% of the way"),
        ({"like": "photos/tulip.jpg"}, "a rose", "seed 7"),
        ({"prompt": "", "like": "photos/tulip.jpg"}, "like tulip.jpg", "seed 7"),
    ],
)
def test_a_image_has_a_title_and_something_to_tell_it_by(facts: dict[str, Any], title: str, subtitle: str) -> None:
    one = sampled(**{"prompt": "a rose", "seed": 7, **facts})
    assert (one.title, one.subtitle) == (title, subtitle)


def test_a_sweep_has_a_column_a_way_and_a_row_a_image(tmp_path: Path) -> None:
    column = [sampled(text, seed) for text in ("a rose", "a daisy") for seed in (0, 1)]
    path = ImageWriter(tmp_path).add_sweep(["w = 0", "w = 2", "w = 4"], [column] * 3, several=True)
    assert path.name == "sheet-0001.png"
    with Image.open(path) as sheet:
        assert 3 * 128 < sheet.width < 4 * 128
        assert 4 * 128 < sheet.height < 6 * 128


@pytest.mark.parametrize("columns", [1, 2, 8, 9, 100, 10_000])
def test_a_sweep_shows_no_more_than_a_sheet_holds(columns: int) -> None:
    rows = sweep_limit(columns)
    assert 1 <= rows <= MAX_ROWS
    assert rows == 1 or rows * columns <= MAX_ROWS * COLUMNS


def test_each_prompt_begins_a_row_and_long_ones_go_on_below() -> None:
    n = COLUMNS + 1
    rows, labels = sheet_rows([sampled(prompt, i) for prompt in "ab" for i in range(n)], n)
    assert [len(row) for row in rows] == [COLUMNS, 1, COLUMNS, 1]
    assert labels == ["a", "", "b", ""]


@pytest.mark.parametrize("n", [2, 3, COLUMNS, COLUMNS + 1, 3 * COLUMNS, MAX_ROWS * COLUMNS + 5])
def test_a_sheet_of_as_many_images_as_it_shows_has_all_its_rows(n: int) -> None:
    rows, _ = sheet_rows([sampled("a")] * sheet_limit(n), n)
    assert len(rows) == MAX_ROWS
    rows, _ = sheet_rows([sampled("a")] * (sheet_limit(n) + 1), n)
    assert len(rows) == MAX_ROWS + 1


def test_single_images_of_several_prompts_share_a_row(tmp_path: Path) -> None:
    path = ImageWriter(tmp_path).add_sheet([sampled(f"a prompt of number {i}") for i in range(COLUMNS + 1)], 1)
    with Image.open(path) as sheet:
        assert sheet.width > COLUMNS * 128
        assert 2 * 128 < sheet.height < 3 * 128


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match="is a file"):
        ImageWriter(tmp_path / "file")
