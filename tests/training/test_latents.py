"""A training in the latents of an autoencoder, from the folder to images, edits, exports and the evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import encoder_factory
import latent_cases
from captionless.checkpoints.config import CONFIG, load_config
from captionless.checkpoints.model import WEIGHTS, load_model
from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.exports.run import export
from captionless.generation.editing import Edit, mask_tensor, photo_tensor
from captionless.generation.generator import Generator
from captionless.latents.autoencoder import KIND
from captionless.latents.space import FOLDER, LatentSpace
from captionless.training.run import train
from training_cases import Remembers, StopsAt, same_state, save_photos

TINY: dict[str, Any] = {"size": 16, "width": 16, "batch": 4, "images": 24, "precision": "float32", "sample_grids": 1}
SAMPLING = SamplingConfig(steps=3, precision="float32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos``, an ``encoder``, an ``autoencoder`` and a ``model`` trained with them."""
    folder = tmp_path_factory.mktemp("latents")
    encoder_factory.small_pair(folder / "encoder")
    latent_cases.autoencoder(folder / "autoencoder", **latent_cases.SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLESS_CACHE", str(folder / "cache"))
        save_photos(folder / "photos")
        train(folder / "photos", folder / "model", **arguments(folder), include_autoencoder=True, **TINY)
    return folder


@pytest.fixture(autouse=True)
def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(place / "cache"))


def arguments(place: Path) -> dict[str, Any]:
    return {"encoder": str(place / "encoder"), "autoencoder": place / "autoencoder"}


def generator(place: Path, model: Path | None = None) -> Generator:
    return Generator(load_model(model or place / "model"), encoder=str(place / "encoder"), device="cpu")


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image)


def test_the_model_records_its_autoencoder_and_holds_a_copy_with_its_licence(place: Path) -> None:
    config = load_config(place / "model")
    assert config.autoencoder
    assert (config.size, config.side, config.denoiser.channels, config.image_channels) == (16, 8, 4, 3)
    assert config.autoencoder.name == str(place / "autoencoder")
    assert (place / "model" / FOLDER / "LICENSE.md").read_text() == "MIT"
    assert (place / "model" / FOLDER / KIND.weights).is_file()
    card = (place / "model" / "README.md").read_text()
    assert "its latents, 4 x 8 x 8, are denoised" in card
    (grid,) = (place / "model" / "samples").glob("*.png")
    assert Image.open(grid).mode == "RGB"


def test_an_interrupted_training_resumes_exactly(place: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(place / "photos", tmp_path / "parts", progress=StopsAt(400), **arguments(place), **TINY)
    assert load_config(tmp_path / "parts").training.images_seen < 24
    parts = train(place / "photos", tmp_path / "parts", resume=True)
    assert same_state(place / "model", parts)
    assert (parts / WEIGHTS).read_bytes() == (place / "model" / WEIGHTS).read_bytes()


def test_a_run_from_a_model_has_its_autoencoder_and_no_other(place: Path, tmp_path: Path) -> None:
    out = train(place / "photos", tmp_path / "more", start_from=place / "model", **TINY)
    mine, before = load_config(out).autoencoder, load_config(place / "model").autoencoder
    assert mine
    assert before
    assert (mine.digest, mine.mean, mine.scale) == (before.digest, before.mean, before.scale)
    other = latent_cases.autoencoder(tmp_path / "other", 1, **latent_cases.SMALL)
    for given, problem in (
        ({"start_from": place / "model", "autoencoder": other}, "is not the autoencoder that the model"),
        ({"start_from": "bundled", "autoencoder": other}, "which denoises pixels"),
        ({"include_autoencoder": True}, "has no effect without `autoencoder`"),
        ({"autoencoder": other, "base_size": 8}, "adds detail to pixels"),
        ({"autoencoder": other, "enlarge": place / "model"}, "adds detail to pixels"),
        ({"autoencoder": other, "crop": 0.5}, "Leave `crop` out"),
        ({"autoencoder": other, "size": 12}, "must be divisible by 8 for this denoiser"),
    ):
        with pytest.raises(CaptionlessError, match=problem):
            train(place / "photos", tmp_path / "refused", **(TINY | given))


def test_the_plan_counts_in_positions_and_has_no_crops_and_no_cascade(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionless.training.rehearsal._images_per_second", lambda *_: 1e5)
    said = Remembers()
    train(place / "photos", tmp_path / "plan", plan=True, minutes=60, progress=said, **arguments(place))
    assert "32 x 32 pixels" in said.said[0]  # the photographs have 40
    assert "dropout" in said.said[0]
    assert "crops" not in said.said[0]
    assert "super-resolution" not in said.said[0]


def test_a_seed_gives_the_same_image_in_any_batch_and_every_step_is_shown_decoded(place: Path) -> None:
    painter = generator(place)
    three = painter.generate("a rose", n=3, sampling=SAMPLING, trajectory=True)
    (third,) = painter.generate("a rose", n=1, seed=2, sampling=SAMPLING)
    assert third.image.size == (16, 16)
    assert np.abs(pixels(third.image).astype(int) - pixels(three[2].image)).max() <= 1
    trajectory = three[0].trajectory
    assert trajectory
    assert {(frame.xt.size, frame.x0.mode) for frame in trajectory.frames} == {((16, 16), "RGB")}
    assert np.array_equal(pixels(trajectory.frames[-1].x0), pixels(three[0].image))


@pytest.mark.parametrize("stopping", [True, False])
def test_held_out_images_are_encoded_only_for_early_stopping(
    stopping: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path))
    counts, stored = list[int](), LatentSpace.stored
    monkeypatch.setattr(LatentSpace, "stored", lambda *given: counts.append(len(given[1])) or stored(*given))
    settings = TINY | {"images": 4, "hold_out": 0.4, "early_stopping": stopping}
    out = train(place / "photos", tmp_path / "model", **arguments(place), **settings)
    record = load_config(out).training
    assert record.held_out
    assert sorted(counts) == sorted([record.train_images, record.held_out][: 1 + stopping])


def test_steps_are_decoded_only_for_whoever_looks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painter, calls, decode = generator(place), list[int](), LatentSpace.decode
    monkeypatch.setattr(LatentSpace, "decode", lambda self, x0: calls.append(len(x0)) or decode(self, x0))
    painter.generate("a rose", n=2, sampling=SAMPLING)
    assert calls == [2]


def test_an_edit_keeps_every_pixel_outside_of_its_mask(place: Path) -> None:
    photo = encoder_factory.pictures(1)[0]
    mask = Image.new("L", photo.size)
    mask.paste(255, (3, 5, 23, 26))  # no whole number of positions
    (edited,) = generator(place).generate("a rose", sampling=SAMPLING, edit=Edit(photo, mask=mask))
    outside = mask_tensor(mask, 16)[0].numpy() == 0
    known = ((photo_tensor(photo, 16, 3) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels(edited.image)[outside], known[outside])
    assert not np.array_equal(pixels(edited.image)[~outside], known[~outside])


def test_with_little_noise_a_photograph_is_what_the_autoencoder_makes_of_it(place: Path) -> None:
    photo, painter = encoder_factory.pictures(1)[0], generator(place)
    (edited,) = painter.generate("a rose", sampling=SAMPLING, edit=Edit(photo, strength=0.001))
    space = painter.stages[0].space
    same = space.decode(space.encode(photo_tensor(photo, 16, 3)[None]).clamp(-1, 1))
    wanted = ((same[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(pixels(edited.image) - wanted).max() < 3


def test_a_stage_of_pixels_enlarges_what_was_decoded(place: Path, tmp_path: Path) -> None:
    train(place / "photos", tmp_path / "large", enlarge=place / "model", **(TINY | {"size": 32}))
    assert load_config(tmp_path / "large").autoencoder is None
    large = generator(place, tmp_path / "large")
    (image,) = large.generate("a rose", sampling=SAMPLING)
    (small,) = large.generate("a rose", sampling=SAMPLING.replace(size=16))
    (base,) = generator(place).generate("a rose", sampling=SAMPLING)
    assert (image.image.size, small.image.size) == ((32, 32), (16, 16))
    assert np.array_equal(pixels(small.image), pixels(base.image))


def test_the_hub_gets_the_autoencoder_and_other_forms_are_refused(place: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "model", tmp_path / "bare")
    shutil.rmtree(folder / FOLDER)
    export(folder, "hub", tmp_path / "hub", prompts=("a rose",))
    assert str(place) not in (tmp_path / "hub" / CONFIG).read_text()
    assert (tmp_path / "hub" / FOLDER / "LICENSE.md").is_file()
    (image,) = generator(place, tmp_path / "hub").generate("a rose", sampling=SAMPLING)
    (same,) = generator(place).generate("a rose", sampling=SAMPLING)
    assert np.array_equal(pixels(image.image), pixels(same.image))
    for to in ("onnx", "web", "diffusers"):
        with pytest.raises(CaptionlessError, match=f"the export to {to} has no place for the autoencoder"):
            export(folder, to, tmp_path / "refused")  # type: ignore[arg-type]


@pytest.mark.slow
def test_with_the_configuration_of_taesd_an_interrupted_training_resumes_exactly(place: Path, tmp_path: Path) -> None:
    taesd = latent_cases.autoencoder(tmp_path / "taesd")
    given = TINY | {"size": 64, "encoder": str(place / "encoder"), "autoencoder": taesd}
    whole = train(place / "photos", tmp_path / "whole", **given)
    assert load_config(whole).side == 8
    with pytest.raises(KeyboardInterrupt):
        train(place / "photos", tmp_path / "parts", progress=StopsAt(400), **given)
    assert load_config(tmp_path / "parts").training.images_seen < 24
    assert same_state(whole, train(place / "photos", tmp_path / "parts", resume=True))


@pytest.mark.slow
def test_the_command_line_trains_resumes_generates_and_evaluates(
    place: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    """With the stand-in for TAESD."""
    taesd = latent_cases.autoencoder(tmp_path / "taesd")
    options = ["--encoder", str(place / "encoder"), "--autoencoder", str(taesd), "--size", "64", "--batch", "4"]
    photos, small = str(place / "photos"), ["--width", "16", "--precision", "float32", "--hold-out", "0.4"]
    assert run("train", photos, "--out", "model", *options, *small, "--images", "8") == 0
    assert run("train", photos, "--out", "model", "--resume", "--images", "16") == 0
    assert load_config("model").side == 8
    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 20, 40))
    mask.save("mask.png")
    encoder_factory.pictures(1)[0].resize((40, 40)).save("photo.png")
    words = ["a rose", "--model", "model", "--steps", "2", "--trajectory"]
    assert run("generate", *words, "--init", "photo.png", "--mask", "mask.png", "--like", "photo.png") == 0
    edited = Image.open("images/0001.png")
    assert edited.size == (64, 64)
    photo = (photo_tensor(Image.open("photo.png"), 64, 3).permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(pixels(edited) - photo)[:, 40:].max() <= 1
    assert run("evaluate", "model", "--data", photos, "--out", "report", "--quick") == 0
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert found["models"]
