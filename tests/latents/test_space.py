"""The contract of latents.space: pixels stay what they are, and latents lie where pixels lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import latent_cases
import tiny
from captionless.config.training import TrainConfig
from captionless.data.arrays import normalise
from captionless.errors import CaptionlessError
from captionless.latents.autoencoder import copy_autoencoder, load_autoencoder
from captionless.latents.space import FOLDER, PIXELS, LatentSpace, open_space

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> LatentSpace:
    folder = latent_cases.autoencoder(tmp_path_factory.mktemp("small"), **latent_cases.SMALL)
    return LatentSpace(load_autoencoder(folder)).fitted(pixels(24), CPU)


def pixels(n: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    """Images whose colours and contrasts differ."""
    colours, noise = tiny.uniform(n, 3, 1, 1, seed=seed), tiny.uniform(n, 3, size, size, seed=seed + 1)
    return (255 * (0.6 * colours + 0.4 * noise)).byte()


def advance(task: str, done: int, total: int) -> None:
    assert (task, total) == ("Encoding images", 5)


def test_the_space_of_pixels_changes_nothing() -> None:
    images, stored = tiny.random(2, 3, 8, 8), pixels(2)
    assert PIXELS.encode(images) is PIXELS.decode(images) is PIXELS.keep(images, images[0], images[:1, :1]) is images
    assert PIXELS.stored(stored, CPU, True, advance) is stored
    assert PIXELS.fitted(stored, CPU) is PIXELS
    assert (PIXELS.factor, PIXELS.channels(1), PIXELS.reference, PIXELS.crops) == (1, 1, None, True)


def test_latents_are_centred_and_three_deviations_fill_the_range(fitted: LatentSpace) -> None:
    x0 = fitted.encode(normalise(pixels(24)))
    assert torch.allclose(x0.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(x0.std((0, 2, 3)), torch.full((4,), 1 / 3), atol=1e-3)


def test_above_a_side_of_32_latents_shrink_which_shifts_the_noise(fitted: LatentSpace) -> None:
    large = LatentSpace(fitted.autoencoder).fitted(pixels(3, 128), CPU)
    x0 = large.encode(normalise(pixels(3, 128)))
    assert x0.shape[2] == 64
    assert torch.allclose(x0.std((0, 2, 3)), torch.full((4,), 1 / 6), atol=1e-3)


def test_latents_are_stored_as_finely_however_far_they_are_scaled_down(
    fitted: LatentSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 8 bits, the error would be 2.7% of the standard deviation at a side of 128."""
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path))
    images = pixels(2, 256)
    large = LatentSpace(fitted.autoencoder).fitted(images, CPU)
    x0 = large.encode(normalise(images))
    error = normalise(large.stored(images, CPU, False, lambda *_: None)) - x0
    assert x0.shape[2] == 128
    assert error.square().mean().sqrt() < 0.004 * x0.std()


def test_processes_that_train_together_agree_on_what_was_measured(fitted: LatentSpace) -> None:
    one = LatentSpace(fitted.autoencoder).fitted(pixels(3), CPU, lambda value: round(value, 2))
    assert {round(value, 2) for value in one.mean + one.scale} == {*one.mean, *one.scale}


def test_a_space_is_measured_once(fitted: LatentSpace) -> None:
    assert fitted.fitted(pixels(3, seed=9), CPU) is fitted


def test_decoding_undoes_the_scaling(fitted: LatentSpace) -> None:
    images = normalise(pixels(3))
    same = fitted.autoencoder.decode(fitted.autoencoder.encode(images))
    assert torch.allclose(fitted.decode(fitted.encode(images)), same, atol=1e-5)


def test_mirrored_images_are_encoded_too_once(
    fitted: LatentSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path))
    images = pixels(5)
    stored = fitted.stored(images, CPU, True, advance)
    views = torch.cat([fitted.encode(normalise(each)) for each in (images, images.flip(3))], 1)
    assert torch.allclose(normalise(stored), views.clamp(-1, 1), atol=1e-3)
    assert not torch.equal(stored[:, 4:], stored[:, :4].flip(3))
    assert torch.equal(fitted.stored(images, CPU, False, advance), stored[:, :4])
    monkeypatch.setattr(LatentSpace, "encode", None)
    assert torch.equal(fitted.stored(images, CPU, True, advance), stored)


def test_what_latents_do_not_allow_is_refused(fitted: LatentSpace) -> None:
    fitted.check(TrainConfig())
    for config, problem in ((TrainConfig(crop=0.6), "Leave `crop` out"), (TrainConfig(grey=True), "Change `grey`")):
        with pytest.raises(CaptionlessError, match=problem):
            fitted.check(config)


def test_a_model_opens_its_own_autoencoder_and_no_other(fitted: LatentSpace, tmp_path: Path) -> None:
    assert open_space(None, tmp_path) is PIXELS
    reference = fitted.reference
    opened = open_space(reference, tmp_path)
    assert isinstance(opened, LatentSpace)
    assert opened.reference == reference
    with pytest.raises(CaptionlessError, match=r"is not the autoencoder that the model in .* was trained with"):
        open_space(replace(reference, digest="0" * 64), tmp_path)
    with pytest.raises(CaptionlessError, match=rf"no autoencoder '/nowhere'.* Copy the .* to {tmp_path / FOLDER}"):
        open_space(replace(reference, name="/nowhere"), tmp_path)
    fitted.copy(tmp_path)
    moved = open_space(replace(reference, name="/nowhere"), tmp_path)
    assert moved.reference == replace(reference, name="/nowhere")
    copy_autoencoder(tmp_path / FOLDER, tmp_path / "elsewhere")
    assert open_space(replace(reference, name="/nowhere"), tmp_path / "x", tmp_path / "elsewhere").factor == 2
