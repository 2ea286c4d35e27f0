"""The verb `train` on classes: labels in, a model of classes out, and no encoder anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import encoder_factory
import tiny
from captionless.checkpoints.config import load_config, save_config
from captionless.checkpoints.image_list import listed_labels, read_image_list
from captionless.checkpoints.model import BANK, WEIGHTS, Model, load_model
from captionless.config.presets import COURSE_TRAINING
from captionless.config.sampling import SamplingConfig
from captionless.config.training import TrainConfig
from captionless.errors import CaptionlessError
from captionless.generation.generator import Generator
from captionless.models.unet import CONDITION_LAYERS
from captionless.tensor_files import read_tensors, save_tensors
from captionless.training import dataset as dataset_module
from captionless.training.dataset import Dataset, Examples
from captionless.training.network import initial_network
from captionless.training.run import train
from captionless.training.sample_grid import GridRows, choose_grid_rows
from captionless.training.start import Start
from training_cases import StopsAt, same_state, state_tensors

TINY: dict[str, Any] = {"size": 8, "width": 16, "batch": 4, "images": 12, "precision": "float32", "sample_grids": 0}
COLOURS = {"blue": (30, 30, 220), "red": (220, 30, 30)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures in plain colours, each slightly different, in a sub-folder a colour."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(6):
            shade = np.array(colour) + rng.integers(-20, 20, 3)
            pixels = np.full((12, 12, 3), shade.clip(0, 255), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test here may load an encoder, but those marked as about words."""
    if "encoder" in request.fixturenames:
        return

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(dataset_module, "load_encoder", never)
    monkeypatch.setattr(dataset_module, "choose_encoder", never)


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    return encoder_factory.small_pair(tmp_path / "encoder")


def write(folder: Path, model: Model) -> Path:
    save_tensors(folder / WEIGHTS, model.denoiser.state_dict())
    if model.config.encoder:
        save_tensors(folder / BANK, {"vectors": model.bank})
    save_config(folder, model.config)
    return folder


@pytest.mark.slow
def test_it_learns_what_each_class_looks_like(photos: Path, tmp_path: Path) -> None:
    long = TINY | {"batch": 8, "images": 480, "learning_rate": 3e-3, "ema_half_life": 60, "warm_up": 64}
    generator = Generator(load_model(train(photos, tmp_path / "model", classes=True, **long)))

    def blueness(guidance: float) -> list[float]:
        images = generator.generate(
            ["red", "blue"], n=3, sampling=SamplingConfig(guidance=guidance, steps=6, precision="float32")
        )
        return [
            float(np.asarray(image, np.float32)[..., 2].mean() - np.asarray(image)[..., 0].mean()) for image in images
        ]

    guided, plain, halfway = blueness(2.0), blueness(0.0), blueness(-0.5)
    for pictures in (guided, plain):
        assert max(pictures[:3]) < -100
        assert min(pictures[3:]) > 100
    # Below 0 the scale leads back towards what is common to both.
    assert np.mean(plain[3:]) - np.mean(plain[:3]) > 50 + np.mean(halfway[3:]) - np.mean(halfway[:3])


def test_a_model_folder_of_classes_holds_them_and_no_bank(photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", classes=True, hold_out=0.2, **(TINY | {"sample_grids": 1}))
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "pictures.csv", "README.md", "samples/000000012.png"} <= names
    assert not any("bank" in name or "mean" in name for name in names)
    values = json.loads((out / "config.json").read_text())
    assert (values["classes"], values["encoder"]) == (["blue", "red"], None)
    assert values["denoiser"]["condition_width"] == 2
    assert values["training"]["settings"]["condition_cosine"] == 1
    counts = values["training"]["class_images"]
    assert sum(counts.values()) == values["training"]["train_images"] < 12


def test_the_label_of_every_image_is_recorded(photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", classes=True, **TINY)
    labels = listed_labels(out)
    assert {name: labels[digest] for name, digest, _ in read_image_list(out)} == {
        f"{colour}/{i}.png": colour for colour in COLOURS for i in range(6)
    }


def test_the_card_names_the_classes_and_how_to_ask_for_one(photos: Path, tmp_path: Path) -> None:
    (photos / "red").rename(photos / "dark red")
    card = (train(photos, tmp_path / "model", classes=True, **TINY) / "README.md").read_text()
    assert "blue (6), dark red (6)" in card
    assert "--class blue" in card
    assert "ncoder" not in card


def test_contact_sheets_show_each_class_and_of_very_many_the_first() -> None:
    def rows(classes: tuple[str, ...]) -> GridRows:
        nothing = Examples(torch.empty(0, 3, 8, 8, dtype=torch.uint8), torch.empty(0, len(classes)))
        return choose_grid_rows(Dataset(nothing, nothing, classes=classes), ())

    few = rows(("blue", "green", "red"))
    assert few.labels == ["blue", "green", "red"]
    assert torch.equal(few.conditions, torch.eye(3))
    assert len(rows(tuple(f"c{i}" for i in range(200))).labels) <= 20


def test_a_table_of_the_same_labels_trains_the_same_model(photos: Path, tmp_path: Path) -> None:
    rows = [f"{colour}/{i}.png,{colour}" for i in range(6) for colour in COLOURS]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    folders = train(photos, tmp_path / "folders", classes=True, **TINY)
    table = train(photos, tmp_path / "table", labels=tmp_path / "labels.csv", **TINY)
    assert same_state(folders, table)
    assert load_config(table).training.labels == str(tmp_path / "labels.csv")


def test_the_preset_of_courses_trains_on_classes_too(photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", classes=True, **{**COURSE_TRAINING, **TINY})  # type: ignore[arg-type]
    config = load_config(out)
    assert (config.denoiser.condition_width, config.denoiser.activation, config.prediction) == (2, "gelu", "eps")
    assert Generator(load_model(out)).generate("red", sampling=SamplingConfig(steps=1))


@pytest.mark.parametrize("given", [{}, {"classes": True, **TINY}], ids=["bare", "the same command"])
def test_an_interrupted_training_goes_on_as_if_it_had_never_stopped(
    photos: Path, tmp_path: Path, given: dict[str, Any]
) -> None:
    whole = train(photos, tmp_path / "whole", classes=True, **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "parts", classes=True, progress=StopsAt(300), **TINY)
    (photos / "red" / "1.png").rename(photos / "red" / "zz.png")  # another order, the same pictures
    parts = train(photos, tmp_path / "parts", resume=True, **given)
    assert same_state(whole, parts)


def test_changed_labels_are_not_resumed(photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", classes=True, **TINY)
    (photos / "red" / "1.png").rename(photos / "blue" / "red-1.png")
    with pytest.raises(CaptionlessError, match=r"blue/red-1\.png was red and is now blue"):
        train(photos, out, resume=True, images=40)


def test_renamed_classes_are_not_resumed(photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "model", classes=True, **TINY)
    (photos / "red").rename(photos / "rose")
    with pytest.raises(CaptionlessError, match=r"\(missing: red; new: rose\)"):
        train(photos, out, resume=True, images=40)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"encoder": "bundled"}, "`encoder` applies only to text-conditional training"),
        ({"sample_prompts": ["a"]}, "`sample_prompts` applies only"),
        ({"condition_cosine": 0.9}, "condition_cosine=0.9"),
        ({"labels": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_what_makes_no_sense_with_classes_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(CaptionlessError, match=told):
        train(photos, tmp_path / "model", **(TINY | {"classes": True} | given))
    assert not (tmp_path / "model").exists()


# --- beginning from other models ---


def test_a_model_of_words_lends_its_weights_but_not_what_reads_the_condition(photos: Path, tmp_path: Path) -> None:
    old = write(tmp_path / "words", tiny.model())
    progress = StopsAt(300)
    given = TINY | {"learning_rate": 1e-9, "batch": 4}
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "model", classes=True, start_from=old, progress=progress, **given)
    before, after = read_tensors(old / WEIGHTS), state_tensors(tmp_path / "model")
    torch.testing.assert_close(after["network.stem.weight"], before["stem.weight"])
    assert after["network.embedding.condition.weight"].shape[1] == 2
    assert any("is text-conditional, but this run is class-conditional" in said for said in progress.said)


@pytest.mark.parametrize("by_class", [True, False])
def test_as_many_classes_as_vectors_have_numbers_are_not_taken_for_them(tmp_path: Path, by_class: bool) -> None:
    model = tiny.model()
    start = Start(model.config, str(write(tmp_path / "words", model)))
    begun, old = (
        initial_network(start, model.config.denoiser, by_class=by_class).state_dict(),
        model.denoiser.state_dict(),
    )
    kept = {name for name in old if torch.equal(old[name], begun[name])}
    assert old.keys() - kept == (set(CONDITION_LAYERS) & old.keys() if by_class else set())


def test_a_model_of_the_same_classes_is_begun_from_and_of_others_is_not(photos: Path, tmp_path: Path) -> None:
    old = write(tmp_path / "old", tiny.class_model(("blue", "red")))
    out = train(photos, tmp_path / "model", classes=True, start_from=old, **(TINY | {"learning_rate": 1e-9}))
    name = "embedding.condition.weight"
    torch.testing.assert_close(read_tensors(out / WEIGHTS)[name], read_tensors(old / WEIGHTS)[name])
    other = write(tmp_path / "other", tiny.class_model(("daisy", "rose")))
    with pytest.raises(CaptionlessError, match="The classes are: daisy, rose"):
        train(photos, tmp_path / "second", classes=True, start_from=other, **TINY)


@pytest.mark.slow
def test_a_model_of_classes_lends_its_weights_to_one_of_words(photos: Path, tmp_path: Path, encoder: Path) -> None:
    old = write(tmp_path / "old", tiny.class_model(("blue", "red")))
    out = train(photos, tmp_path / "model", start_from=old, encoder=str(encoder), **TINY)
    config = load_config(out)
    assert config.encoder is not None
    assert (config.classes, config.denoiser.condition_width) == ((), config.encoder.width)
    assert config.training.settings["condition_cosine"] == TrainConfig().condition_cosine
    with pytest.raises(CaptionlessError, match="which is text-conditional"):
        train(photos, out, resume=True, classes=True, images=40)
