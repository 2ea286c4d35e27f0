"""Copies are found where they can be found, and nobody is acquitted where they could not have been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captionless.evaluation.estimate import share
from captionless.evaluation.measure import evaluate
from captionless.evaluation.memory_section import verdict
from captionless.evaluation.results import Assessment, Section
from captionless.model_card import read_pictures
from captionless.sampling import Sampling
from evaluation_cases import build_place, make_fast, paint_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_place(tmp_path_factory.mktemp("copies"))


@pytest.fixture(autouse=True)
def fast(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fast(monkeypatch, place)


@pytest.fixture
def copying(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Make every model paint its training pictures, mirrored; return their names."""

    def begin() -> list[str]:
        names = sorted(name for name, _, role in read_pictures(place / "model") if role == "train")
        squares = [Image.open(place / "photos" / name).resize((8, 8), Image.Resampling.LANCZOS) for name in names]
        pixels = torch.stack([torch.tensor(list(one.tobytes())).reshape(8, 8, 3).permute(2, 0, 1) for one in squares])

        def copies(_: Any, __: Any, conditions: torch.Tensor, *___: Any, **____: Any) -> torch.Tensor:
            return pixels[torch.arange(len(conditions)) % len(pixels)].flip(3).to(torch.uint8)

        monkeypatch.setattr("captionless.evaluation.studio.paint", copies)
        return names

    return begin


def measure(place: Path, data: Path, tmp_path: Path) -> Assessment:
    options = {"data": data, "out": tmp_path / "report", "sampling": Sampling(steps=1, precision="float32")}
    return evaluate(place / "model", **options).assessments[0]


def memory(found: Assessment) -> Section:
    return next(one for one in found.sections if one.key == "memorisation")


def test_a_model_that_copies_its_training_pictures_is_caught_and_an_honest_one_is_not(
    place: Path, tmp_path: Path, copying: Callable[[], list[str]]
) -> None:
    honest = measure(place, place / "photos", tmp_path)
    copying()
    caught = measure(place, place / "photos", tmp_path)
    assert (honest.memorises, caught.memorises) == (False, True)
    for key in ("memorised", "memorised_own"):
        figure = caught.figures[key]
        assert figure.value.value > 0.9
        assert figure.real is not None
        assert figure.real.value < 0.1
    assert memory(caught).sheets[0].title.startswith("Nearest training pictures")
    assert "Caught memorising" in (tmp_path / "report" / "index.html").read_text()


def test_where_the_folder_has_no_training_pictures_nobody_is_acquitted(
    place: Path, tmp_path: Path, copying: Callable[[], list[str]]
) -> None:
    new = paint_photos(tmp_path / "new", 24, seed=9)
    honest = measure(place, new, tmp_path)
    assert honest.memorises is None
    assert any("no acquittal" in warning for warning in honest.warnings)
    copying()
    assert measure(place, new, tmp_path).memorises is not False


def test_where_most_training_pictures_are_elsewhere_nobody_is_acquitted(
    place: Path, tmp_path: Path, copying: Callable[[], list[str]]
) -> None:
    names = copying()
    data = paint_photos(tmp_path / "few", 24, seed=9)
    for name in names[:3]:
        shutil.copy(place / "photos" / name, data / name)
    found = measure(place, data, tmp_path)
    assert found.memorises is not False
    assert f"among 3 of the {len(names)} training pictures" in memory(found).notes[0]


def test_where_held_out_pictures_are_copies_themselves_nobody_is_acquitted(
    place: Path, tmp_path: Path, copying: Callable[[], list[str]]
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


def test_the_verdict_weighs_the_share_against_that_of_real_pictures() -> None:
    assert verdict([share(0, 100), share(30, 100)], share(1, 100), sound=True) is True
    assert verdict([share(30, 100)], share(30, 100), sound=True) is False
    assert verdict([share(3, 100)], share(1, 100), sound=True) is False
    assert verdict([share(30, 100)], share(1, 100), sound=False) is True
    assert verdict([share(0, 100)], share(1, 100), sound=False) is None
    assert verdict([share(0, 100)], None, sound=True) is False
    assert verdict([share(10, 100)], None, sound=True) is True
