"""Paths come from users in any spelling, and names go to shells and terminals as they are."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionless.config.generate_request import GenerateRequest
from captionless.config.train_request import TrainRequest
from captionless.errors import CaptionlessError, harmless
from captionless.paths import quoted, same_path, user_path
from platforms import needs_posix

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def test_a_tilde_is_the_home_folder_in_every_setting_that_is_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    assert GenerateRequest(out="~/pics").out == tmp_path / "pics"
    request = TrainRequest(folder=Path("~/in"), out="~/out", start_from="~/model", labels="~/labels.csv")
    assert [str(one) for one in (request.folder, request.out, request.start_from, request.labels)] == [
        str(tmp_path / name) for name in ("in", "out", "model", "labels.csv")
    ]
    assert TrainRequest(folder="s3://bucket/a//b", out="x").folder == "s3://bucket/a//b"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop/a", "\udcff"])
def test_a_path_that_cannot_exist_is_one_line(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CaptionlessError, match="cannot use the path") as caught:
        GenerateRequest(out=tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_same_place_is_the_same_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for spelled in ("real/", "./real", tmp_path / "real", "link", "link/../real"):
        assert same_path("real", spelled)
    assert not same_path("real", "other")


@needs_posix("shell of this kind")
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_quoted_name_is_read_back_by_the_shell(names):
    shown = " ".join(map(quoted, names))
    run = subprocess.run(["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True)
    assert run.stdout.decode().split("\0")[:-1] == names
    assert harmless(shown) == shown


def test_on_windows_names_are_quoted_as_both_of_its_shells_read_them(monkeypatch):
    monkeypatch.setattr("captionless.paths.WINDOWS", True)
    assert [quoted(name) for name in ("runs\\mine", "my model")] == ["runs\\mine", '"my model"']


def test_escape_sequences_and_turns_of_direction_are_shown_and_other_signs_stay():
    assert harmless("\x1b[31mred\x07\x9b\r\n") == "\\x1b[31mred\\x07\\x9b\\r\\n"
    assert harmless("\u202egpj.exe\u2066\u2028") == "\\u202egpj.exe\\u2066\\u2028"
    assert str(CaptionlessError("there is no \x1b[2Jrose\n")) == "there is no \\x1b[2Jrose\\n"
    kept = "größe 花 🌹 \u200d نرگس \u00a0"
    assert harmless(kept) == kept
