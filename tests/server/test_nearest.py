"""The nearest training images: found in both mirrorings, credited, and shown only where that was asked for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image, ImageOps

import tiny
from captionless.checkpoints.config import base_folder, model_folder
from captionless.checkpoints.model import bank_images, load_model
from captionless.generation.generator import Generator
from captionless.server.nearest import NearestImages
from server_cases import Served, generator, png, serving, trained_on


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generator]:
    return trained_on(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def served(trained: tuple[Path, Generator]) -> Iterator[Served]:
    models = {"trained": trained[1], "unrecorded": generator(), "classes": Generator(tiny.class_model(), device="cpu")}
    with serving(models, training_images=trained[0]) as server:
        yield server


def ask(served: Served, image: bytes, model: str = "trained") -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/images/nearest", files={"image": image}, data={"model": model})


def mirrored(image: bytes) -> bytes:
    file = io.BytesIO()
    ImageOps.mirror(Image.open(io.BytesIO(image))).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("change", [bytes, mirrored], ids=["as it is", "mirrored"])
def test_a_training_image_is_nearest_to_itself(served: Served, change: Any) -> None:
    answer = ask(served, change(png(seed=7))).json()
    first, *others = answer["images"]
    assert first["similarity"] == pytest.approx(1, abs=1e-3)
    assert (first["name"], first["credit"], first["link"]) == (
        "7.png",
        "<b>Painter 7</b>, CC-BY",
        "https://example.org/7",
    )
    assert [one["similarity"] for one in others] == sorted([one["similarity"] for one in others], reverse=True)
    assert (len(others), answer["compared"], answer["of"]) == (3, 10, 12)
    assert -1 < answer["typical"] < 1


def test_a_script_is_no_link(served: Served) -> None:
    assert ask(served, png(seed=3)).json()["images"][0]["link"] is None


def test_thumbnails_are_of_the_recorded_files_alone(served: Served, trained: tuple[Path, Generator]) -> None:
    head, _, data = ask(served, png(seed=7)).json()["images"][0]["thumbnail"].partition(",")
    assert head == "data:image/webp;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(data))).resize((12, 12), Image.Resampling.BOX)
    assert np.corrcoef(np.ravel(shown), np.ravel(Image.open(io.BytesIO(png(seed=7)))))[0, 1] > 0.9
    (trained[0] / "8.png").write_bytes(png(seed=99))  # another image under the name of a training image
    assert ask(served, png(seed=8)).json()["images"][0]["thumbnail"] is None


def test_without_the_option_no_image_is_shown(trained: tuple[Path, Generator]) -> None:
    with serving({"trained": trained[1]}) as served:
        assert [one["thumbnail"] for one in ask(served, png(seed=7)).json()["images"]] == [None] * 4


def test_a_damaged_table_costs_the_credits_alone(tmp_path: Path) -> None:
    photos, model = trained_on(tmp_path)
    (tmp_path / "model" / "CREDITS.csv").write_bytes(b"file,artist\n7.png,\xff\n")
    first = NearestImages(model, photos).find(Image.open(io.BytesIO(png(seed=7))))["images"][0]
    assert (first["name"], first["credit"], first["link"]) == ("7.png", "", None)


def test_models_say_whether_they_record_their_images(served: Served) -> None:
    can = {one.id: one.captionless["can"] for one in served.client().models.list()}  # type: ignore[attr-defined]
    assert can == {
        "trained": ["blend", "edit", "like", "nearest"],
        "unrecorded": ["blend", "edit", "like"],
        "classes": ["blend", "edit"],
    }
    assert ask(served, png(), "unrecorded").status_code == 400
    assert ask(served, png(), "classes").status_code == 400
    assert ask(served, b"hello").json()["error"]["param"] == "image"
    assert ask(served, png(), "unknown").status_code == 404
    served.wait(places=0)


def test_the_bundled_model_names_the_image_of_each_vector() -> None:
    base = base_folder(model_folder("bundled"))
    model = load_model(base)
    images = bank_images(base, model.config)
    assert len(set(images)) == len(images) == len(model.bank)
