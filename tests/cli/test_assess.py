"""`captionless assess` through its entry point: what it prints, its exit codes, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

from assessment_cases import CLASSES, QUICK, classifier, model, photos
from captionless.cli.assess import class_table, conclusion
from captionless.cli.console import plain_table, table_text
from captionless.evaluation.assessment.grade import Grade, verdicts
from evaluation_cases import make_fast

Run = Callable[..., int]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("assess")
    photos(root / "photos")
    model(root / "right")
    model(root / "wrong", ("rose", "daisy", "tulip"))
    return root


@pytest.fixture(autouse=True)
def fast(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fast(monkeypatch, place)


def assess(run: Run, place: Path, model: str, *words: str) -> int:
    return run("assess", str(place / model), "--data", str(place / "photos"), "-n", "6", *QUICK, *words)


@pytest.mark.parametrize("bar", ["0.95", "1", "ceiling"])
def test_a_right_model_passes_with_exit_code_0(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str], bar: str
) -> None:
    assert assess(run, place, "right", "--pass", bar) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("6 images per class, dpmpp-2m, 2 steps, guidance 0, float32, seed 0.")
    table = [line.split() for line in shown[2:6]]
    assert table[0][-3:] == ["daisy", "rose", "tulip"]
    assert table[1:] == [["daisy", "6", "0", "0"], ["rose", "0", "6", "0"], ["tulip", "0", "0", "6"]]
    assert shown[-1].startswith("PASS: each of 3 classes reaches its bar")
    assert "The classifier itself recognises 100.0% (" in shown[-2]
    assert Path.cwd().joinpath("grade.json").exists() is False


def test_a_wrong_model_fails_with_exit_code_1_and_says_what_was_recognised_instead(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert assess(run, place, "wrong") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "FAIL: 2 of 3 classes below the bar, 95%: daisy, rose."
    assert "rose (6)" in shown.out  # what daisies were taken for


def test_out_holds_the_grade(run: Run, place: Path) -> None:
    assert assess(run, place, "wrong", "--out", "there", "--seed", "5", "--sampler", "ddim") == 1
    written = json.loads(Path("there/grade.json").read_text())
    assert written["passed"] is False
    assert written["settings"] == "ddim, 2 steps, guidance 0, float32, seed 5"


@pytest.mark.slow
def test_without_a_model_the_bundled_one_is_asked_for_photographs_or_for_the_prompts(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(place / "photos"), "-n", "1", *QUICK, "--out", "grade"]
    assert run("assess", *words) in (0, 1)
    assert capsys.readouterr().out.startswith("bundled, graded on ")
    classes = json.loads(Path("grade/grade.json").read_text())["verdicts"]
    assert [one["prompts"] for one in classes] == [[f"a photo of a {name}"] for name in CLASSES]
    Path("p.jsonl").write_text('{"prompt": "a red rose", "label": "rose"}\n')
    assert run("assess", *words, "--prompts", "p.jsonl") in (0, 1)
    (rose,) = json.loads(Path("grade/grade.json").read_text())["verdicts"]
    assert rose["prompts"] == ["a red rose"]
    assert "left out: daisy, tulip" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pass", "most"], "--pass must be a number or ceiling, not most"),
        (["--pass", "95"], "at most 1"),
        (["--pass", "0"], "above 0"),
        (["--pass", "nan"], "--pass must be"),
        (["-n", "0"], "-n must be at least 1, not 0"),
        (["--steps", "0"], "--steps must be a whole number of at least 1"),
        (["--prompts", "plain.txt"], "'a rose' has no label"),
        (["--prompts", "cats.jsonl"], "one of daisy, rose, tulip"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    Path("plain.txt").write_text("a rose\n")
    Path("cats.jsonl").write_text('{"prompt": "a cat", "label": "cat"}\n')
    assert assess(run, place, "right", *words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("captionless: ")]
    assert len(error) == 1
    assert said in error[0]


def test_a_model_that_is_not_there_is_bad_input_not_a_fail(
    run: Run, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert assess(run, place, "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_folder_is_needed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("assess") == 2
    assert "Missing option '--data'" in capsys.readouterr().err


def test_a_class_that_the_classifier_never_knows_fails() -> None:
    table = torch.tensor([[9, 0, 0], [0, 9, 0], [9, 0, 0]])
    found = verdicts(classifier((9, 10), (9, 10), (0, 10)), {name: (name,) for name in CLASSES}, table, "ceiling")
    grade = Grade("m", "d", "s", "ceiling", CLASSES, found, tuple(map(tuple, table.tolist())), None)
    assert conclusion(grade) == "FAIL: 1 of 3 classes below the bar, the ceiling: tulip."
    assert "fail" in table_text(class_table(grade))


def test_columns_are_aligned_in_any_script() -> None:
    lines = table_text(plain_table(("", "n", "x"), [("a", "12", "x"), ("日本", "3", "")])).splitlines()
    assert [line.split() for line in lines] == [["n", "x"], ["a", "12", "x"], ["日本", "3"]]
    assert len({cell_len(line[: line.index(n) + len(n)]) for line, n in zip(lines, ("n", "12", "3"), strict=True)}) == 1


def test_of_many_classes_only_what_they_were_taken_for_is_printed() -> None:
    names = tuple(f"kind {i:02}" for i in range(30))
    table = 9 * torch.eye(30, dtype=torch.int64) + torch.eye(30, dtype=torch.int64).roll(1, 1)
    found = verdicts(classifier(*[(9, 10)] * 30, classes=names), {name: (name,) for name in names}, table, 0.9)
    text = table_text(class_table(Grade("m", "d", "s", 0.9, names, found, tuple(map(tuple, table.tolist())), None)))
    assert max(map(len, text.splitlines())) < 120
    assert sum("kind 03" in line for line in text.splitlines()) == 2  # its own line, and what kind 02 was taken for
