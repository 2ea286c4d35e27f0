"""The verb `assess`, from a model and a folder to a grade: right models pass, wrong ones fail."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tiny
from assessment_cases import CLASSES, FAST, classifier, model, photos
from captionless import assess
from captionless.data.images import ImageFile, read_folder
from captionless.errors import CaptionlessError
from captionless.evaluation.assessment.grade import CEILING, Grade
from captionless.evaluation.assessment.run import accuracy_on_real, class_prompts
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt
from captionless.progress import Silent
from evaluation_cases import SMALL_CLASSIFIER

SWAPPED = ("rose", "daisy", "tulip")
WORDS = Generator(tiny.model(), device="cpu")
OF_CLASSES = Generator(tiny.class_model(("daisy", "rose")), device="cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("assess")
    photos(root / "photos")
    model(root / "right")
    model(root / "wrong", SWAPPED)
    return root


@pytest.fixture
def graded(place: Path) -> Callable[..., Grade]:
    def call(name: str | Path = "right", **options: Any) -> Grade:
        return assess(
            place / name, **{"data": place / "photos", "n": 6, "sampling": FAST, "config": SMALL_CLASSIFIER, **options}
        )

    return call


def test_a_model_that_generates_every_class_passes(graded: Callable[..., Grade]) -> None:
    grade = graded()
    assert grade.passed
    assert grade.confusion == ((6, 0, 0), (0, 6, 0), (0, 0, 6))
    assert [verdict.recognised.n for verdict in grade.verdicts] == [6, 6, 6]
    assert grade.real is not None
    assert (grade.real.value, grade.real.n) == (1.0, 6)  # a fifth of the 36
    assert grade.left_out == ()


def test_a_model_that_generates_another_class_fails(graded: Callable[..., Grade]) -> None:
    grade = graded("wrong")
    assert not grade.passed
    assert grade.confusion == ((0, 6, 0), (6, 0, 0), (0, 0, 6))
    assert [verdict.label for verdict in grade.failed] == ["daisy", "rose"]
    assert not graded("wrong", passing=CEILING).passed


def test_the_ceiling_is_what_real_images_reach(graded: Callable[..., Grade]) -> None:
    grade = graded(passing=CEILING)
    assert [verdict.bar for verdict in grade.verdicts] == [1.0, 1.0, 1.0]
    assert grade.passed


@pytest.mark.slow
def test_the_same_assessment_gives_the_same_grade(graded: Callable[..., Grade]) -> None:
    assert graded() == graded()


def test_the_classifier_of_one_grade_judges_other_models(graded: Callable[..., Grade]) -> None:
    first = graded()
    assert graded(data=None, classifier=first.classifier).verdicts == first.verdicts
    assert not graded("wrong", data=None, classifier=first.classifier).passed


def test_prompts_of_a_file_may_give_classes_other_names(
    graded: Callable[..., Grade], place: Path, tmp_path: Path
) -> None:
    pairs = [("rose", "daisy"), ("daisy", "rose")]  # the wrong model calls a daisy a rose
    lines = [json.dumps({"prompt": prompt, "label": label}) for prompt, label in pairs]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    grade = graded("wrong", prompts=tmp_path / "prompts.jsonl")
    assert grade.passed
    assert grade.confusion == ((6, 0, 0), (0, 6, 0))
    assert grade.left_out == ("tulip",)


def test_classes_that_only_one_side_knows_are_left_out(graded: Callable[..., Grade], place: Path) -> None:
    model(place / "other", ("daisy", "lily", "tulip"))
    grade = graded("other")
    assert [verdict.label for verdict in grade.verdicts] == ["daisy", "tulip"]
    assert grade.classes == CLASSES
    assert grade.left_out == ("lily", "rose")
    assert grade.passed


def test_labels_of_a_table_count_instead_of_sub_folders(graded: Callable[..., Grade], tmp_path: Path) -> None:
    flat, rows = tmp_path / "flat", ["file,label"]
    flat.mkdir()
    for path in photos(tmp_path / "photos").rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
        rows.append(f"{path.parent.name}-{path.name},{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert graded(data=flat, labels=tmp_path / "labels.csv").passed


def test_a_few_images_of_a_kind_are_left_out_not_learned(graded: Callable[..., Grade], tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")
    (data / "moss").mkdir()
    Image.new("RGB", (8, 8), "green").save(data / "moss" / "1.png")
    grade = graded(data=data)
    assert grade.classes == CLASSES
    assert grade.left_out == ("moss",)


@pytest.mark.slow
def test_the_classifier_does_not_depend_on_the_model(graded: Callable[..., Grade], place: Path) -> None:
    one, other = graded(), graded("wrong")
    assert (one.real, [v.real for v in one.verdicts]) == (other.real, [v.real for v in other.verdicts])


def test_the_labels_are_the_folders_whatever_the_model_was_told_of_its_training_images(
    graded: Callable[..., Grade], place: Path
) -> None:
    told = dict(zip(CLASSES, SWAPPED, strict=True))
    with (model(place / "misled", SWAPPED) / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "sha256", "role", "label"])
        for image in read_folder(place / "photos", (8,)):
            assert isinstance(image, ImageFile)
            rows.writerow([image.name, image.digest, "train", told[image.name.split("/")[0]]])
    assert [verdict.label for verdict in graded("misled").failed] == ["daisy", "rose"]


def test_the_same_image_in_another_file_is_not_learned_and_tested_with(
    graded: Callable[..., Grade], tmp_path: Path
) -> None:
    data = photos(tmp_path / "photos", 6)
    for path in list(data.rglob("*.png")):
        with Image.open(path) as image:
            image.save(path.with_name(f"copy of {path.name}"), compress_level=0)
    grade = graded(data=data)
    assert grade.real is not None
    assert grade.real.n == 3  # one of the six images of each class, as without their copies


# --- prompts of each class ---


def test_each_class_has_the_prompts_of_the_file_or_of_the_model() -> None:
    known = ["daisy", "rose", "tulip"]
    assert class_prompts(WORDS, known[1:], None) == {"rose": ("a photo of a rose",), "tulip": ("a photo of a tulip",)}
    assert class_prompts(OF_CLASSES, known[1:], None) == {"rose": ("rose",)}
    prompts = [Prompt("a red rose", "rose"), Prompt("a daisy", "daisy"), Prompt("a pink rose", " rose")]
    found = class_prompts(WORDS, known, prompts)
    assert list(found.items()) == [("daisy", ("a daisy",)), ("rose", ("a red rose", "a pink rose"))]
    renamed = class_prompts(OF_CLASSES, ["gänseblümchen", "x"], [Prompt("daisy", "ga\u0308nseblu\u0308mchen")])
    assert renamed == {"gänseblümchen": ("daisy",)}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt("a red rose"), r"'a red rose' has no label, .* one of rose, tulip"),
        (Prompt("a cat", "cat"), r"'a cat' has the label cat, .* one of rose, tulip"),
    ],
)
def test_a_prompt_that_nothing_can_judge_is_refused(prompt: Prompt, said: str) -> None:
    with pytest.raises(CaptionlessError, match=said):
        class_prompts(WORDS, ["rose", "tulip"], [Prompt("a rose", "rose"), prompt])


def test_without_a_class_in_common_both_sides_are_named_with_the_way_out() -> None:
    told = (
        r"no class in common\. The classes are: daisy, rose\. .* labels are: cat, dog\. .*\"daisy\", \"label\": \"cat\""
    )
    with pytest.raises(CaptionlessError, match=told):
        class_prompts(OF_CLASSES, ["cat", "dog"], None)


def test_images_of_a_class_are_spread_evenly_over_its_prompts(
    graded: Callable[..., Grade], place: Path, tmp_path: Path
) -> None:
    lines = [json.dumps({"prompt": prompt, "label": "daisy"}) for prompt in CLASSES]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    assert graded(prompts=tmp_path / "prompts.jsonl", n=7).confusion == ((3, 2, 2),)


# --- what the classifier's word is worth ---


def test_a_classifier_that_knows_nothing_gives_no_grade() -> None:
    with pytest.raises(CaptionlessError, match="learned nothing: its accuracy on 30 real images is 33%"):
        accuracy_on_real(classifier((10, 10), (0, 10), (0, 10)), CLASSES, CEILING)


def test_without_real_images_there_is_no_ceiling() -> None:
    untested = replace(classifier(), by_class=(None, None, None))
    assert accuracy_on_real(untested, CLASSES, 0.9) is None
    with pytest.raises(CaptionlessError, match="there is no ceiling"):
        accuracy_on_real(untested, CLASSES, CEILING)


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "`n` must be at least 1, not 0"),
        ({"passing": 0.0}, "`passing` must be a share above 0 and at most 1, or ceiling, not 0"),
        ({"passing": 95}, "`passing` must be a share above 0 and at most 1, or ceiling, not 95"),
        ({"passing": float("nan")}, "`passing` must be a share .* not nan"),
        ({"passing": "floor"}, "`passing` must be a share .* not floor"),
        ({"seed": -1}, "`seed` must be"),
        ({"data": None}, "`data` is missing"),
        ({"data": "nowhere"}, "there is no folder nowhere"),
        ({"prompts": "nowhere.txt"}, "cannot read .*nowhere.txt"),
        ({"labels": "nowhere.csv"}, "cannot read .*nowhere.csv"),
        ({"out": "/proc/nowhere"}, "`out` /proc/nowhere cannot be written"),
        ({"name": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], said: str, graded: Callable[..., Grade]) -> None:
    with pytest.raises(CaptionlessError, match=said):
        graded(**options)


@pytest.mark.parametrize("case", ["flat", "one class", "few"])
def test_a_folder_that_no_classifier_can_learn_from_is_refused_with_what_to_do(
    case: str, graded: Callable[..., Grade], tmp_path: Path
) -> None:
    data = photos(tmp_path / "photos", 4 if case == "few" else 6)
    if case == "flat":
        for path in list(data.rglob("*.png")):
            path.rename(data / f"{path.parent.name}{path.name}")
    if case == "one class":
        shutil.rmtree(data / "daisy")
        shutil.rmtree(data / "tulip")
    with pytest.raises(CaptionlessError, match=r"needs 2 labels with 5 images each, .* sub-folder of their own, or"):
        graded(data=data)


def test_what_cannot_be_asked_fails_before_the_classifier_is_trained(
    graded: Callable[..., Grade], tmp_path: Path
) -> None:
    class Reports(Silent):
        def say(self, message: str) -> None:
            assert "Training" not in message

    (tmp_path / "p.jsonl").write_text('{"prompt": "a red rose", "label": "rose"}')
    with pytest.raises(CaptionlessError, match=r"there is no class 'a red rose'"):
        graded(prompts=tmp_path / "p.jsonl", progress=Reports())
