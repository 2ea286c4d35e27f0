"""Files of prompts: plain lines, or JSON lines with labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from captionless.errors import CaptionlessError
from captionless.generation.prompts import Prompt, read_prompts
from platforms import DEVICES


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "prompts.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_plain_lines_are_prompts_and_blank_ones_are_not(tmp_path: Path) -> None:
    assert read_prompts(written(tmp_path, "a rose\n\n  a daisy \r\n")) == [Prompt("a rose"), Prompt("a daisy")]


def test_json_lines_may_have_settings_and_other_keys(tmp_path: Path) -> None:
    text = (
        '{"prompt": "a red rose", "label": "rose", "petals": "red"}\n\n'
        '{"prompt": " a field ", "negative": "sky", "n": 2, "seed": 7, "guidance": 3, "label": null}\n'
    )
    field = Prompt("a field", negative="sky", n=2, seed=7, guidance=3)
    assert read_prompts(written(tmp_path, text)) == [Prompt("a red rose", "rose"), field]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert read_prompts(written(tmp_path, b'\xef\xbb\xbf{"prompt": "x"}')) == [Prompt("x")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "contains no prompt"),
        (" \n\n", "contains no prompt"),
        ('{"prompt": "a"}\na rose\n', "line 2: invalid JSON"),
        ('{"text": "a"}', "line 1: `prompt` is missing or empty"),
        ('{"prompt": "  "}', "line 1: `prompt` is missing or empty"),
        ('\n{"prompt": 3}', "line 2: `prompt` is missing or empty"),
        ('{"prompt": "a"}\n[1]\n', "line 2: `prompt` is missing or empty"),
        ('{"prompt": "a", "label": 3}', "line 1: `label` is 3: input should be a valid string"),
        ('{"prompt": "a", "label": " "}', "line 1: `label` is .*at least 1 character"),
        ('{"prompt": "a", "negative": []}', "line 1: `negative` is .*valid string"),
        ('{"prompt": "a", "n": 1.5}', "line 1: `n` is 1.5: input should be a valid integer"),
        ('{"prompt": "a", "seed": true}', "line 1: `seed` is true: input should be a valid integer"),
        ('{"prompt": "a", "guidance": "3"}', 'line 1: `guidance` is "3": input should be a valid number'),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_wrong_line_is_named_with_what_to_write(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=said) as error:
        read_prompts(written(tmp_path, text))
    assert "prompts.txt" in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"cannot read the prompts in .*gone\.txt"):
        read_prompts(tmp_path / "gone.txt")


def test_unusual_separators_do_not_end_a_line(tmp_path: Path) -> None:
    lines = ["a red\u2028rose", "a white\x0bdaisy", "a yellow\x85tulip"]
    assert read_prompts(written(tmp_path, "\n".join(lines))) == [Prompt(line) for line in lines]


@DEVICES
def test_a_file_that_never_ends_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CaptionlessError, match="more than 1,000,000 lines"):
        read_prompts(written(tmp_path, "a\n" * 1_000_001))
    monkeypatch.setattr("captionless.text_files.MAX_TEXT", 1000)
    with pytest.raises(CaptionlessError, match="cannot read the prompts in /dev/zero: it has more than 1,000 bytes"):
        read_prompts(Path("/dev/zero"))


def test_json_that_is_nested_too_deep_and_paths_that_cannot_exist_are_one_line(tmp_path: Path) -> None:
    for text in ('{"prompt": "a", "seed": ' + "[" * 100_000, '{"prompt": "a"}\n' + "[" * 100_000):
        with pytest.raises(CaptionlessError, match="invalid JSON"):
            read_prompts(written(tmp_path, text))
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(CaptionlessError, match="cannot read the prompts"):
            read_prompts(tmp_path / name)
