"""The contract of captionless.encoders.image_texts: the words a folder already has for its images."""

import json
from pathlib import Path

import pytest

import image_zoo as zoo
from captionless.encoders.image_texts import image_texts, name_words
from captionless.errors import CaptionlessError


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("potion/sky_blue_2.png", "potion sky blue"),
        ("weapon/longSword03.PNG", "weapon long sword"),
        ("undead/zombies_zombie-hound.png", "undead zombies zombie hound"),
        ("ring/ring_green.png", "ring green"),  # said once
        ("gold/06.png", "gold"),
        ("IMG_2041.jpg", ""),
        ("", ""),
        ("daisy/10555815624_dc211569b0_m.jpg", "daisy"),  # an identifier, not a word
        ("Blumen/Größe Ä.png", "blumen größe"),
        ("花/赤い花.png", "赤い花"),
    ],
)
def test_words_of_a_path(name: str, words: str) -> None:
    assert " ".join(name_words(name)) == words


def test_texts_beside_the_images_follow_the_words_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a red circle\non white")
    (tmp_path / "sub").mkdir()
    rows = [{"file_name": "one.png", "text": "a square"}, {"file_name": "two.PNG", "caption": ["big", "blue"]}]
    (tmp_path / "sub" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    for name in ("a.png", "sub/one.png", "sub/two.PNG", "sub/three.png"):
        (tmp_path / name).write_bytes(zoo.encoded(zoo.plain(), "PNG"))
    assert image_texts(tmp_path) == {
        "a.png": "a red circle on white",
        "sub/one.png": "sub one a square",
        "sub/three.png": "sub three",
        "sub/two.PNG": "sub two big blue",
    }


@pytest.mark.parametrize(
    "line", ["not json", "{}", '{"file_name": "a.png"}', '["a.png"]', '{"file_name": "a.png", "text": 3}']
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "x"}\n' + line)
    (tmp_path / "a.png").write_bytes(zoo.encoded(zoo.plain(), "PNG"))
    with pytest.raises(CaptionlessError, match=r"metadata\.jsonl, line 2"):
        image_texts(tmp_path)


def test_a_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "a.png").write_bytes(zoo.encoded(zoo.plain(), "PNG"))
    with pytest.raises(CaptionlessError, match=r"a\.txt"):
        image_texts(tmp_path)
