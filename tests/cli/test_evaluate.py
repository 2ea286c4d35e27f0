"""`captionless evaluate` through its entry point: what it prints, writes and refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import encoder_factory
import tiny
from assessment_cases import CLASSES
from assessment_cases import model as colour_model
from assessment_cases import photos as colours
from captionless.checkpoints.config import EncoderReference, ModelConfig
from captionless.checkpoints.model import Model
from captionless.encoders.dual_encoder import load_encoder
from captionless.evaluation import one_model
from evaluation_cases import make_fast, sample_photos, write_model

Run = Callable[..., int]
SWAPPED = ("rose", "daisy", "tulip")
QUICK = ("--steps", "1", "--precision", "float32", "--prompts", "{place}/prompts.txt")
"""Prompts without labels, so that no classifier is trained."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos``, ``encoder``, and a ``model`` whose record says that it was trained on half of the photos."""
    root = tmp_path_factory.mktemp("evaluate")
    folder = str(encoder_factory.small_pair(root / "encoder"))
    encoder = load_encoder(folder)
    network = tiny.denoiser(condition_width=encoder.width)
    reference = EncoderReference(folder, encoder.digest, encoder.width, encoder.logit_scale)
    bank = tiny.unit_vectors(12, encoder.width)
    model = Model("tiny", ModelConfig(8, network.config, reference), network, bank)
    write_model(root / "model", sample_photos(root / "photos", 60), model=model)
    (root / "prompts.txt").write_text("a red rose\na white daisy\n")
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def shared_cache(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the photos be read and encoded once."""
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(place / "cache"))


def evaluated(run: Run, place: Path, *words: str) -> int:
    return run("evaluate", *(word.format(place=place) for word in words))


def test_the_figures_are_printed_and_the_page_is_named_last(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(run, place, "{place}/model", "--data", "{place}/photos", *QUICK) == 0
    shown = capsys.readouterr()
    assert "KID × 1000" in shown.out
    assert "real images" in shown.out
    written = json.loads(Path("report/report.json").read_text())
    assert written["models"][0]["memorises"] is None  # beside 30 held-out images
    assert f"{written['models'][0]['verdict']}. " in shown.out
    assert shown.out.splitlines()[-1] == "report/index.html"
    assert Path("report/index.html").is_file()
    assert "30 are held out" in shown.err


def test_the_options_reach_the_report(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", narrow)  # a terminal that lacks a sign is no reason to fail
    words = ["--samples", "21", "--guidance", "2", "--sampler", "ddim", "--seed", "3", "--out", "there"]
    assert evaluated(run, place, "{place}/model", "--data", "{place}/photos", *QUICK, *words) == 0
    narrow.flush()
    assert b"KID ? 1000" in narrow.buffer.getvalue()  # type: ignore[attr-defined]
    written = json.loads(Path("there/report.json").read_text())
    assert written["models"][0]["figures"]["kid"]["value"]["n"] == 21
    assert written["settings"]["Sampling"] == "ddim, 1 steps, guidance 2, float32"
    assert written["settings"]["Seed"] == "3"


@pytest.mark.parametrize(("names", "code", "said"), [(CLASSES, 0, "PASS: all 3"), (SWAPPED, 1, "FAIL: 2 of 3")])
def test_a_pass_is_exit_code_0_and_a_fail_1(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    make_fast(monkeypatch, tmp_path)
    monkeypatch.setattr(one_model, "load_encoder", lambda *_: tiny.FakeEncoder("bundled"))
    words = ["--data", str(colours(tmp_path / "photos")), "--pass", "0.95", "--prompt-images", "18"]
    words += ["--steps", "2", "--guidance", "0", "--precision", "float32"]
    assert run("evaluate", str(colour_model(tmp_path / "model", names)), *words) == code
    shown = capsys.readouterr().out
    assert said in shown
    assert ("rose (6)" in shown) == (code == 1)  # what daisies were taken for
    assert shown.splitlines()[-1] == "report/index.html"


@pytest.mark.slow
def test_without_a_model_the_bundled_one_is_measured(run: Run, place: Path, tmp_path: Path) -> None:
    photos = sample_photos(tmp_path / "photos", 6)
    assert evaluated(run, place, "--data", str(photos), "--size", "64", *QUICK) == 0
    written = json.loads(Path("report/report.json").read_text())
    assert written["models"][0]["name"] == "bundled"
    missing = written["models"][0]["missing"]
    assert "but there are 6" in missing["Fidelity and diversity"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["nothing", "--data", "{place}/photos"], "the model folder nothing does not exist"),
        (["--data", "{place}/photos", "--sampler", "magic"], "magic"),
        (["--data", "{place}/photos", "--steps", "0"], "--steps must be an integer of at least 1"),
        (["--data", "{place}/photos", "--samples", "0"], "--samples must be an integer of at least 1"),
        (["--data", "{place}/photos", "--prompts", "none.txt"], "cannot read the prompts in none.txt"),
        (["{place}/model", "--data", "{place}/photos", "--features", "./none"], "none"),
        (["--data", "{place}/photos", "--pass", "most"], "--pass must be a number or ceiling, not most"),
        (["--data", "{place}/photos", "--pass", "95"], "at most 1"),
        (["{place}/model", "--data", "{place}/photos", "--prompts", "{place}/prompts.txt", "--pass", "1"], "no labels"),
        (["--data", "{place}/empty"], "there is no usable image in"),
        (["{place}/model", "--data", "{place}/photos", "--encoder", "bundled"], "was trained with the encoder"),
        ([], "Missing option '--data'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert evaluated(run, place, *words) == 2
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
    assert "At 16 images: KID x 1000" in capsys.readouterr().err
