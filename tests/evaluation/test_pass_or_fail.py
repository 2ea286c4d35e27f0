"""A pass or a fail for every class: right models pass, wrong ones fail, and a grade that means nothing is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiny
from assessment_cases import CLASSES, FAST, classifier, model, photos
from captionless.config.evaluation import Passing
from captionless.errors import CaptionlessError
from captionless.evaluation import one_model
from captionless.evaluation.metrics import share
from captionless.evaluation.report.results import ClassResult, ModelEvaluation, Section
from captionless.evaluation.run import evaluate
from captionless.evaluation.sections.text_alignment import class_results
from evaluation_cases import SMALL_CLASSIFIER

SWAPPED = ("rose", "daisy", "tulip")
RIGHT = ((9, 10), (8, 10), (7, 10))


def graded(table: list[list[int]], passing: Passing | None, *right: tuple[int, int]) -> tuple[ClassResult, ...]:
    """The results of images of each class (rows) that were recognised as each class (columns)."""
    counts = torch.tensor(table).flatten()
    wanted, predicted = (torch.arange(9).div(3, rounding_mode="floor"), torch.arange(9) % 3)
    rows = torch.arange(9).repeat_interleave(counts)
    return class_results(classifier(*right or RIGHT), predicted[rows], wanted[rows], passing)


def passed(results: tuple[ClassResult, ...]) -> bool | None:
    return ModelEvaluation("m", {}, (Section("text_alignment", classes=results),)).passed


# --- from what was recognised to a verdict ---


def test_each_class_must_reach_the_share_that_is_asked_for() -> None:
    assert passed(graded([[20, 0, 0], [0, 20, 0], [1, 0, 19]], 0.95))  # 19 of 20 is 0.95, and enough
    results = graded([[20, 0, 0], [0, 20, 0], [2, 0, 18]], 0.95)
    assert not passed(results)
    assert [one.label for one in results if not one.passed] == ["tulip"]
    assert (results[2].recognised, results[2].real) == (share(18, 20), share(7, 10))


def test_classes_that_pass_do_not_make_up_for_one_that_fails() -> None:
    assert not passed(graded([[100, 0, 0], [0, 100, 0], [100, 0, 0]], 0.5))


def test_the_ceiling_asks_of_each_class_what_its_real_images_reach() -> None:
    table = [[18, 2, 0], [0, 20, 0], [5, 1, 14]]
    results = graded(table, "ceiling", (45, 50), (50, 50), (7, 10))
    assert [one.bar for one in results] == [0.9, 1.0, 0.7]
    assert passed(results)
    higher = graded(table, "ceiling", (46, 50), (50, 50), (71, 100))
    assert [one.label for one in higher if not one.passed] == ["daisy", "tulip"]


def test_a_class_that_the_classifier_never_knows_is_not_passed_by_never_being_recognised() -> None:
    results = graded([[20, 0, 0], [0, 20, 0], [20, 0, 0]], "ceiling", (9, 10), (9, 10), (0, 10))
    assert [one.label for one in results if not one.passed] == ["tulip"]


def test_without_real_images_the_ceiling_is_everything() -> None:
    untested = replace(classifier(), by_class=(None, None, None))
    (result,) = class_results(untested, torch.tensor([1, 1]), torch.tensor([1, 1]), "ceiling")
    assert (result.real, result.bar, result.passed) == (None, 1.0, True)


def test_it_is_told_what_images_were_taken_for_the_most_frequent_first() -> None:
    results = graded([[5, 1, 3], [0, 9, 0], [0, 0, 9]], None)
    assert results[0].mistaken == {"tulip": 3, "rose": 1}
    assert results[0].taken_for == "tulip (3), rose (1)"
    assert passed(results) is None


@given(n=st.integers(1, 200), hits=st.integers(0, 200), percent=st.integers(1, 100))
def test_a_class_passes_exactly_where_its_hits_are_enough(n: int, hits: int, percent: int) -> None:
    hits = min(hits, n)
    assert ClassResult("rose", share(hits, n), None, {}, percent / 100).passed == (100 * hits >= percent * n)


# --- models ---


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("assess")
    photos(root / "photos")
    model(root / "right")
    model(root / "wrong", SWAPPED)
    return root


@pytest.fixture
def assessed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelEvaluation]:
    monkeypatch.setattr(one_model, "load_encoder", lambda *_: tiny.FakeEncoder("bundled"))

    def call(name: str = "right", **options: Any) -> ModelEvaluation:
        given = {"data": place / "photos", "prompt_images": 18, "passing": 0.95, **options}
        return evaluate(
            place / name, out=tmp_path / "report", sampling=FAST, classifier=SMALL_CLASSIFIER, **given
        ).models[0]

    return call


@pytest.mark.parametrize("passing", [0.95, "ceiling"])
def test_a_model_that_generates_every_class_passes(
    assessed: Callable[..., ModelEvaluation], tmp_path: Path, passing: Passing
) -> None:
    found = assessed(passing=passing)
    assert found.passed is True
    assert [(one.label, one.recognised) for one in found.classes] == [(name, share(6, 6)) for name in CLASSES]
    written = json.loads((tmp_path / "report" / "report.json").read_text())["models"][0]
    assert (written["passed"], written["classes"][0]["passed"]) == (True, True)


def test_a_model_that_generates_another_class_fails(assessed: Callable[..., ModelEvaluation], tmp_path: Path) -> None:
    found = assessed("wrong")
    assert found.passed is False
    assert {one.label: one.mistaken for one in found.classes} == {
        "daisy": {"rose": 6},
        "rose": {"daisy": 6},
        "tulip": {},
    }
    assert "fail" in (tmp_path / "report" / "index.html").read_text()


def test_classes_that_only_one_side_knows_are_left_out(assessed: Callable[..., ModelEvaluation], place: Path) -> None:
    model(place / "other", ("daisy", "lily", "tulip"))
    found = assessed("other")
    assert [one.label for one in found.classes] == ["daisy", "tulip"]
    assert any("for lily" in what for section in found.sections for what, _ in section.missing)


def test_labels_of_a_table_count_instead_of_sub_folders(
    assessed: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    flat, rows = tmp_path / "flat", ["file,label"]
    flat.mkdir()
    for path in photos(tmp_path / "photos").rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
        rows.append(f"{path.parent.name}-{path.name},{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert assessed(data=flat, labels=tmp_path / "labels.csv").passed


def test_the_same_image_in_another_file_is_not_learned_and_tested_with(
    assessed: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    data = photos(tmp_path / "photos", 6)
    for path in list(data.rglob("*.png")):
        with Image.open(path) as image:
            image.save(path.with_name(f"copy of {path.name}"), compress_level=0)
    real = assessed(data=data).classes[0].real
    assert real is not None
    assert real.n == 1  # one of the six images of each class, as without their copies


# --- a grade that means nothing ---


@pytest.mark.parametrize("passing", [0.0, 95, 1.01, "floor"])
def test_a_share_that_is_none_is_refused(assessed: Callable[..., ModelEvaluation], passing: Any) -> None:
    with pytest.raises(CaptionlessError, match="`passing` must be") as caught:
        assessed(passing=passing)
    assert caught.value.parameter == "passing"


@pytest.mark.parametrize("case", ["one class", "few"])
def test_a_folder_that_no_classifier_can_learn_from_is_refused_with_what_to_do(
    case: str, assessed: Callable[..., ModelEvaluation], tmp_path: Path
) -> None:
    data = photos(tmp_path / "photos", 4 if case == "few" else 6)
    if case == "one class":
        shutil.rmtree(data / "daisy")
        shutil.rmtree(data / "tulip")
    with pytest.raises(CaptionlessError, match=r"2 labels with at least 5 different images each, .* separate"):
        assessed(data=data)


def test_a_model_without_a_class_in_common_gets_no_grade(assessed: Callable[..., ModelEvaluation], place: Path) -> None:
    model(place / "strange", ("cat", "dog", "cow"))
    with pytest.raises(CaptionlessError, match=r"cannot be graded with `passing`"):
        assessed("strange")


def test_a_classifier_that_knows_nothing_gives_no_grade(
    assessed: Callable[..., ModelEvaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_model, "train_reference", lambda *_, **__: classifier((10, 10), (0, 10), (0, 10)))
    with pytest.raises(CaptionlessError, match="learned nothing: its accuracy on 30 real images is 33%"):
        assessed()
