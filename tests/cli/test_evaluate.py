"""`captionless evaluate` through its entry point: what it prints, writes and refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation_cases import build_place, make_fast, sample_photos

Run = Callable[..., int]
QUICK = ("--steps", "1", "--precision", "float32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_place(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(autouse=True)
def fast(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fast(monkeypatch, place)


def test_the_figures_are_printed_and_the_page_is_named_last(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", str(place / "model"), "--data", str(place / "photos"), *QUICK) == 0
    shown = capsys.readouterr()
    assert "KID × 1000" in shown.out
    assert "real:" in shown.out
    assert "Neither caught nor cleared. No more near-copies" in shown.out  # of 30 held-out pictures
    written = json.loads(Path("report/report.json").read_text())
    assert f"  {written['models'][0]['verdict']}. " in shown.out
    assert shown.out.splitlines()[-1] == "report/index.html"
    assert Path("report/index.html").is_file()
    assert "are held out" in shown.err


def test_the_options_reach_the_report(run: Run, place: Path) -> None:
    words = ["--samples", "21", "--guidance", "2", "--sampler", "ddim", "--seed", "3", "--out", "there"]
    assert run("evaluate", str(place / "model"), "--data", str(place / "photos"), *QUICK, *words) == 0
    written = json.loads(Path("there/report.json").read_text())
    assert written["models"][0]["figures"]["kid"]["n"] == 21
    assert written["settings"]["Sampling"] == "ddim, 1 steps, guidance 2, float32"
    for part in ("--samples 21", "--guidance 2.0", "--sampler ddim", "--seed 3", "--steps 1", "--out there"):
        assert part in written["command"]


def test_a_terminal_that_lacks_a_sign_is_no_reason_to_fail(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", narrow)
    assert run("evaluate", str(place / "model"), "--data", str(place / "photos"), *QUICK) == 0
    narrow.flush()
    assert b"KID ? 1000" in narrow.buffer.getvalue()  # type: ignore[attr-defined]


def test_without_a_model_the_bundled_one_is_measured(run: Run, tmp_path: Path) -> None:
    photos = sample_photos(tmp_path / "photos", 6)
    assert run("evaluate", "--data", str(photos), *QUICK) == 0
    written = json.loads(Path("report/report.json").read_text())
    assert written["models"][0]["model"] == "bundled"
    missing = {one["what"]: one["why"] for one in written["models"][0]["missing"]}
    assert "at least 20 pictures, and there are 6" in missing["Fidelity and diversity"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["nothing", "--data", "{photos}"], "the model folder nothing does not exist"),
        (["--data", "{photos}", "--sampler", "magic"], "magic"),
        (["--data", "{photos}", "--steps", "0"], "--steps must be a whole number of at least 1"),
        (["--data", "{photos}", "--samples", "0"], "--samples must be a whole number of at least 1"),
        (["--data", "{photos}", "--prompts", "none.txt"], "cannot read --prompts none.txt"),
        (["--data", "{photos}", "--features", "./none"], "none"),
        (["--data", "{empty}"], "there is no usable image in"),
        (["{model}", "--data", "{photos}", "--encoder", "bundled"], "was trained with the encoder"),
        ([], "Missing option '--data'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    places = {"photos": place / "photos", "model": place / "model", "empty": place / "empty"}
    places["empty"].mkdir(exist_ok=True)
    assert run("evaluate", *(word.format(**places) for word in words)) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("captionless: ")]
    assert len(error) == 1
    assert said in error[0]


def test_evaluate_every_is_an_option_of_train(run: Run, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--size", "8", "--width", "16", "--batch", "8", "--images", "16", "--precision", "float32"]
    words += ["--encoder", str(place / "encoder"), "--out", "m", "--evaluate-every", "16"]
    assert run("train", str(place / "photos"), *words) == 2
    assert "Add --hold-out 0.1" in capsys.readouterr().err
    assert run("train", str(place / "photos"), *words, "--hold-out", "0.5") == 0
    assert Path("m/best/model.safetensors").is_file()
    assert "At 16 pictures: KID x 1000" in capsys.readouterr().err
