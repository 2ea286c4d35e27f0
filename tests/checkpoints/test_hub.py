"""The contract of checkpoints.hub: a model by its id on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import captionless
import image_zoo as zoo
import tiny
from captionless.checkpoints.config import model_folder
from captionless.checkpoints.hub import FETCHED
from captionless.errors import CaptionlessError
from fake_hub import FakeHub, fake_hub

QUICK = captionless.SamplingConfig(steps=1, precision="float32")
NAME = "someone/flowers"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with a model of classes, which needs no encoder, and files that a model does not need."""
    folder = tiny.saved(tiny.class_model(), tmp_path / "upload")
    (folder / "code.py").write_text("raise SystemExit")
    (folder / "weights.bin").write_bytes(b"a pickle")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    FETCHED.clear()
    older = tiny.saved(tiny.class_model(("tulip", "aster")), tmp_path / "older")
    with fake_hub(monkeypatch, tmp_path / "cache", {NAME: {"main": folder, "v1": older}}) as hub:
        yield hub
    FETCHED.clear()


def test_a_model_is_fetched_by_its_id_and_then_comes_from_the_cache(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = captionless.load(NAME, device="cpu")
    assert generator.model.name == NAME
    assert len(generator.generate("rose", sampling=QUICK)) == 1
    assert sorted(hub.fetched) == ["bank.safetensors", "config.json", "model.safetensors"]
    FETCHED.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert captionless.load(NAME, device="cpu").classes == generator.classes


def test_a_revision_is_fetched_and_cached_beside_the_newest(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {name: captionless.load(name, device="cpu").classes for name in (NAME, f"{NAME}@v1")}
    assert classes == {NAME: ("daisy", "rose"), f"{NAME}@v1": ("tulip", "aster")}
    assert captionless.load(f"{NAME}@{hub.commit('v1')}", device="cpu").classes == ("tulip", "aster")
    FETCHED.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert {name: captionless.load(name, device="cpu").classes for name in classes} == classes


def test_a_revision_that_does_not_exist_is_one_clear_error(hub: FakeHub) -> None:
    with pytest.raises(CaptionlessError, match=rf"{NAME} has no branch, tag or commit v2 on the Hugging Face Hub"):
        captionless.load(f"{NAME}@v2")


@pytest.mark.parametrize("command", ["info", "generate", "train"])
def test_every_command_takes_a_model_of_the_hub(
    hub: FakeHub, run: Callable[..., int], command: str, tmp_path: Path
) -> None:
    for i, name in enumerate(("rose/1.png", "daisy/2.png", "rose/3.png", "daisy/4.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zoo.encoded(zoo.noise(8, seed=i), "PNG"))
    short = ("--classes", "--images", "4", "--batch", "4", "--precision", "float32")
    words = {
        "info": (f"{NAME}@main",),
        "generate": ("--class", "rose", "--model", f"{NAME}@main", "--steps", "1"),
        "train": ("photos", "--out", "run", "--from", f"{NAME}@main", *short),
    }
    assert run(command, *words[command]) == 0


def test_a_recorded_name_is_no_reason_to_ask_the_hub(hub: FakeHub) -> None:
    assert model_folder(NAME) == Path(NAME)
    assert not hub.fetched


def test_a_local_folder_of_the_same_name_takes_precedence(hub: FakeHub) -> None:
    tiny.saved(tiny.class_model(("tulip", "aster")), Path(NAME))
    assert captionless.load(NAME, device="cpu").classes == ("tulip", "aster")
    assert not hub.fetched


def test_a_model_that_is_nowhere_is_one_clear_error(hub: FakeHub) -> None:
    with pytest.raises(CaptionlessError, match="there is no model someone/else"):
        captionless.load("someone/else")


def test_without_a_connection_a_model_that_is_not_cached_is_one_clear_error(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CaptionlessError, match=rf"there is no folder {NAME}, .* \(no connection\)") as error:
        captionless.load(NAME)
    assert "\n" not in str(error.value)
