"""Copies are found where they can be found, and nobody is acquitted where they could not have been."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captionless.checkpoints.image_list import read_image_list
from captionless.config.sampling import SamplingConfig
from captionless.evaluation.metrics import memorises, share
from captionless.evaluation.report.page import verdict as page_verdict
from captionless.evaluation.report.results import ModelEvaluation, Section
from captionless.evaluation.run import evaluate
from captionless.evaluation.sections import memorisation as memory_section
from captionless.evaluation.sections.memorisation import NO_TRACE, UNKNOWN
from captionless.training.run import train
from evaluation_cases import TINY, build_place, make_fast, sample_photos, small_config

WORDS = ("Caught memorising", "Not caught memorising", "Neither caught nor cleared", "Memorisation not measured")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_place(tmp_path_factory.mktemp("copies"), 110)


@pytest.fixture(autouse=True)
def fast(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fast(monkeypatch, place)


@pytest.fixture
def copying(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Make every model paint the training pictures of one, mirrored; return their names."""

    def begin(model: Path = place / "model", photos: Path = place / "photos") -> list[str]:
        names = sorted(name for name, _, role in read_image_list(model) if role == "train")
        squares = [Image.open(photos / name).resize((8, 8), Image.Resampling.LANCZOS) for name in names]
        pixels = torch.stack([torch.tensor(list(one.tobytes())).reshape(8, 8, 3).permute(2, 0, 1) for one in squares])

        def copies(_: Any, conditions: torch.Tensor, *__: Any, **___: Any) -> torch.Tensor:
            return pixels[torch.arange(len(conditions)) % len(pixels)].flip(3).to(torch.uint8)

        monkeypatch.setattr("captionless.evaluation.samples.sample", copies)
        return names

    return begin


def measure(place: Path, data: Path, tmp_path: Path, model: Path | None = None, **sizes: Any) -> ModelEvaluation:
    options = {"data": data, "out": tmp_path / "report", "sampling": SamplingConfig(steps=1, precision="float32")}
    return evaluate(model or place / "model", config=small_config(**sizes), **options).models[0]


def said(place: Path, tmp_path: Path, found: ModelEvaluation) -> str:
    """The verdict in report.json, which the page and the card give in the same words."""
    _, words, meaning = page_verdict(found)
    for path in (tmp_path / "report" / "index.html", place / "model" / "README.md"):
        text = path.read_text()
        assert words in text
        assert meaning in text
        assert not any(other in text for other in WORDS if other != words)
    told = json.loads((tmp_path / "report" / "report.json").read_text())["models"][0]["verdict"]
    assert told == words
    return words


def memory(found: ModelEvaluation) -> Section:
    return next(one for one in found.sections if one.key == "memorisation")


def test_a_model_that_copies_its_training_images_is_caught_and_an_honest_one_is_not(
    place: Path, tmp_path: Path, copying: Callable[..., list[str]]
) -> None:
    honest = measure(place, place / "photos", tmp_path)
    assert said(place, tmp_path, honest) == "Not caught memorising"
    copying()
    caught = measure(place, place / "photos", tmp_path)
    assert said(place, tmp_path, caught) == "Caught memorising"
    assert (honest.memorises, caught.memorises) == (False, True)
    for key in ("memorised", "memorised_own"):
        figure = caught.figures[key]
        assert figure.value.value > 0.9
        assert figure.real is not None
        assert figure.real.value < 0.1
    assert memory(caught).grids[0].title.startswith("Nearest training images")


@pytest.fixture
def child(place: Path, tmp_path: Path) -> Path:
    """A model begun from the other, and trained on 30 photographs that are not in its folder."""
    own = sample_photos(tmp_path / "own", 30, seed=7)
    return train(own, tmp_path / "child", start_from=place / "model", encoder=str(place / "encoder"), **TINY)


def test_what_a_model_was_begun_from_is_no_alibi_for_copies_of_its_own_images(
    place: Path, tmp_path: Path, copying: Callable[..., list[str]], child: Path
) -> None:
    copying(child, tmp_path / "own")
    found = measure(place, place / "photos", tmp_path, child)
    assert found.memorises is None
    assert found.reasons == (NO_TRACE,)
    assert "among 0 of the 30 training images" in memory(found).notes[0]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Neither caught nor cleared" in page
    assert NO_TRACE in page
    assert "Neither caught nor cleared" in (child / "README.md").read_text()
    both = shutil.copytree(place / "photos", tmp_path / "both")
    shutil.copytree(tmp_path / "own", both, dirs_exist_ok=True)
    assert measure(place, both, tmp_path, child).memorises is True
    alone = measure(place, tmp_path / "own", tmp_path, child)
    assert (alone.memorises, alone.figures["memorised_own"].real) == (True, None)


def test_a_model_without_a_record_of_its_own_is_not_cleared_by_that_of_another(
    place: Path, tmp_path: Path, child: Path
) -> None:
    (child / "pictures.csv").unlink()
    found = measure(place, place / "photos", tmp_path, child)
    assert (found.memorises, found.reasons) == (None, (UNKNOWN,))


def test_what_a_model_was_begun_from_saw_elsewhere_is_told_of(place: Path, tmp_path: Path, child: Path) -> None:
    strange = sample_photos(tmp_path / "strange", 50, seed=8)
    shutil.copytree(tmp_path / "own", strange, dirs_exist_ok=True)
    found = measure(place, strange, tmp_path, child)
    learned = sum(row[2] == "train" for row in read_image_list(place / "model"))
    assert found.memorises is False
    assert any(f"{learned} are not in the folder" in note for note in memory(found).notes)


def test_where_only_a_few_of_many_training_images_are_compared_with_nobody_is_acquitted(
    place: Path, tmp_path: Path
) -> None:
    found = measure(place, place / "photos", tmp_path, compared=10)
    assert found.memorises is None
    assert "with only 10 of the" in found.reasons[0]


def test_beside_a_few_held_out_images_nobody_is_acquitted(place: Path, tmp_path: Path) -> None:
    found = measure(place, place / "photos", tmp_path, samples=30)
    assert found.memorises is None
    assert found.reasons == ("it takes 40 held-out images to say what is usual, and there were 30",)
    assert said(place, tmp_path, found) == "Neither caught nor cleared"


def test_each_training_image_is_shown_once(
    place: Path, tmp_path: Path, copying: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    grid = memory_section.sample_grid
    monkeypatch.setattr(
        memory_section,
        "sample_grid",
        lambda images, *_, **__: shown.append(len({one.tobytes() for one in images[1::2]})) or grid(images, *_, **__),
    )
    copying()
    measure(place, place / "photos", tmp_path)
    assert shown
    assert all(n == memory_section.SHOWN for n in shown)


def test_where_the_folder_has_no_training_images_nobody_is_acquitted(
    place: Path, tmp_path: Path, copying: Callable[..., list[str]]
) -> None:
    new = sample_photos(tmp_path / "new", 24, seed=9)
    honest = measure(place, new, tmp_path)
    assert honest.memorises is None
    assert any("proves nothing" in warning for warning in honest.warnings)
    copying()
    assert measure(place, new, tmp_path).memorises is not False


def test_where_most_training_images_are_elsewhere_nobody_is_acquitted(
    place: Path, tmp_path: Path, copying: Callable[..., list[str]]
) -> None:
    names = copying()
    data = sample_photos(tmp_path / "few", 24, seed=9)
    for name in names[:3]:
        shutil.copy(place / "photos" / name, data / name)
    found = measure(place, data, tmp_path)
    assert found.memorises is not False
    assert f"among 3 of the {len(names)} training images" in memory(found).notes[0]


def test_where_held_out_images_are_copies_themselves_nobody_is_acquitted(
    place: Path, tmp_path: Path, copying: Callable[..., list[str]]
) -> None:
    names = copying()
    data = tmp_path / "twice"
    for name in names:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "photos" / name, data / name)
        Image.open(place / "photos" / name).save((data / name).with_suffix(".bmp"))
    found = measure(place, data, tmp_path)
    assert found.memorises is None
    assert any("they are not held out" in warning for warning in found.warnings)


def test_the_verdict_weighs_the_share_against_that_of_real_images() -> None:
    assert memorises([share(0, 100), share(30, 100)], share(1, 100), sound=True) is True
    assert memorises([share(30, 100)], share(30, 100), sound=True) is False
    assert memorises([share(3, 100)], share(1, 100), sound=True) is False
    assert memorises([share(30, 100)], share(1, 100), sound=False) is True
    assert memorises([share(0, 100)], share(1, 100), sound=False) is None
    assert memorises([share(0, 100)], None, sound=True) is None
    assert memorises([share(10, 100)], None, sound=True) is True


@pytest.mark.parametrize("held_out", [1, 3, 5, 10, 20, 39])
def test_the_fewer_images_are_held_out_the_less_is_proven(held_out: int) -> None:
    real = share(0, held_out)
    assert memorises([share(40, 100)], real, sound=True) is True
    assert memorises([share(10, 100)], real, sound=True) is True
    assert memorises([share(0, 100)], real, sound=True) is None
    assert memorises([share(2, 100)], real, sound=True) is None


def test_what_few_real_images_look_like_too_is_not_held_against_paintings() -> None:
    assert memorises([share(12, 100)], share(2, 20), sound=True) is None
