"""The contract of training.autoencoder: an autoencoder of a folder, resumed exactly, that a training accepts."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import latent_cases
import tiny
from bit_flips import flipped
from captionless.checkpoints.model import STATE
from captionless.config.autoencoder import AutoencoderConfig
from captionless.errors import CaptionlessError
from captionless.latents.autoencoder import CONFIG, WEIGHTS, load_autoencoder
from captionless.tensor_files import read_about, read_tensors, save_tensors
from captionless.training import autoencoder
from captionless.training.autoencoder import SHEET, train_autoencoder
from captionless.training.feature_distance import FeatureDistance
from captionless.training.reconstructions import psnr
from training_cases import Remembers, StopsAt, same_state, save_photos

TINY: dict[str, Any] = {"factor": 4, "width": 8, "size": 32, "crop": 16, "batch": 4, "images": 32, "hold_out": 0.3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, module_cache: None) -> Path:
    """A folder with ``photos`` and the autoencoder ``ae`` trained on them."""
    folder = tmp_path_factory.mktemp("place")
    save_photos(folder / "photos")
    train_autoencoder(AutoencoderConfig(folder=folder / "photos", out=folder / "ae", **TINY))
    return folder


def begin(place: Path, out: Path, progress: Remembers | None = None, **more: Any) -> Path:
    options = {"folder": place / "photos", "out": out} | TINY | more
    return train_autoencoder(AutoencoderConfig(**options), progress or Remembers())


def test_the_folder_is_an_autoencoder_of_diffusers_with_a_sheet_and_a_card(place: Path) -> None:
    found = load_autoencoder(place / "ae")
    assert (found.channels, found.factor) == (4, 4)
    assert list(found.network.config.num_encoder_blocks) == [1, 3, 3]
    assert Image.open(place / "ae" / SHEET).width > 32
    card = (place / "ae" / "README.md").read_text()
    assert "32 crops seen" in card
    assert "held-out images" in card


def test_an_interrupted_training_resumes_exactly(place: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin(place, tmp_path / "parts", StopsAt(400))
    begin(place, tmp_path / "parts", resume=True)
    assert same_state(place / "ae", tmp_path / "parts")
    assert (place / "ae" / WEIGHTS).read_bytes() == (tmp_path / "parts" / WEIGHTS).read_bytes()


def test_nothing_is_overwritten_and_only_the_length_may_change(place: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match="already contains a model"):
        begin(place, place / "ae")
    foreign = latent_cases.autoencoder(tmp_path / "foreign", **latent_cases.SMALL)
    with pytest.raises(CaptionlessError, match="has files that the training would replace"):
        begin(place, foreign, resume=True)
    with pytest.raises(CaptionlessError, match="would count as training images"):
        begin(place, place / "photos" / "ae")


def test_a_resumed_training_keeps_its_settings_and_refuses_others_before_it_reads_images(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = shutil.copytree(place / "ae", tmp_path / "ae")
    begun = {"folder": place / "photos", "out": ours, "resume": True}
    train_autoencoder(AutoencoderConfig(**begun, images=36), said := Remembers())
    assert said.said[0].startswith("Plan: 32 x 32 pixels become 4 x 8 x 8 values; 0.0 million weights, batches of 4")
    monkeypatch.setattr(autoencoder, "_images", None)
    changed = "cannot be resumed: `width` is 16, and was 8 and `batch` is 8, and was 4"
    with pytest.raises(CaptionlessError, match=changed):
        train_autoencoder(AutoencoderConfig(**begun, batch=8, width=16), Remembers())


def test_a_resumed_tuning_has_the_shape_of_what_it_started_from(place: Path, tmp_path: Path) -> None:
    tuned = {"folder": place / "photos", "out": tmp_path / "tuned"}
    train_autoencoder(AutoencoderConfig(**tuned, start_from=place / "ae", size=32, batch=4, images=4), Remembers())
    train_autoencoder(AutoencoderConfig(**tuned, resume=True, images=8), Remembers())
    assert "8 crops seen" in (tmp_path / "tuned" / "README.md").read_text()


def test_a_training_that_was_there_first_is_not_overwritten(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = autoencoder._plan

    def slow(*arguments: Any) -> str:  # meanwhile, another training begins and ends
        monkeypatch.undo()
        begin(place, tmp_path / "ae", seed=1)
        return plan(*arguments)

    monkeypatch.setattr(autoencoder, "_plan", slow)
    with pytest.raises(CaptionlessError, match="already contains a model"):
        begin(place, tmp_path / "ae")
    assert 'seed": 1' in (tmp_path / "ae" / "README.md").read_text()


@pytest.mark.parametrize("counter", [{"images": -4, "seconds": 1}, {"images": "4", "seconds": 1}, {"images": 4}, None])
def test_a_state_whose_counter_is_absurd_is_refused(counter: Any, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "ae", tmp_path / "ae")
    path = tmp_path / "ae" / STATE
    about = {name: value for name, value in read_about(path).items() if name != "digest"}
    save_tensors(path, read_tensors(path), about | {"counter": counter})
    with pytest.raises(CaptionlessError, match=f"cannot be resumed: {STATE} is damaged"):
        begin(place, tmp_path / "ae", resume=True, images=64)


def test_the_state_of_another_autoencoder_is_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "ae", tmp_path / "ae")
    path = tmp_path / "ae" / STATE
    about = {name: value for name, value in read_about(path).items() if name != "digest"}
    assert about["model"] == read_about(tmp_path / "ae" / WEIGHTS)["model"] != ""
    save_tensors(path, read_tensors(path), about | {"model": "another"})
    with pytest.raises(CaptionlessError, match=f"{STATE} belongs to another autoencoder than {WEIGHTS}"):
        begin(place, tmp_path / "ae", resume=True, images=64)


@pytest.mark.parametrize("name", [STATE, WEIGHTS])
def test_sixty_flipped_bits_of_each_file_are_all_noticed(name: str, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "ae", tmp_path / "ae")
    for _ in flipped(tmp_path / "ae" / name):
        with pytest.raises(CaptionlessError):
            load_autoencoder(tmp_path / "ae") if name == WEIGHTS else read_tensors(tmp_path / "ae" / name)
    assert load_autoencoder(tmp_path / "ae").factor == 4


def test_the_plan_says_what_it_would_do_and_does_nothing(place: Path, tmp_path: Path) -> None:
    said = Remembers()
    begin(place, tmp_path / "plan", said, plan=True)
    assert said.said[-1].startswith("Plan: 32 x 32 pixels become 4 x 8 x 8 values; 0.0 million weights, batches of 4")
    assert not (tmp_path / "plan").exists()


def test_training_reconstructs_better_and_another_one_is_tuned_further(place: Path, tmp_path: Path) -> None:
    images = (255 * tiny.uniform(8, 3, 1, 1)).byte().expand(8, 3, 32, 32)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    options = TINY | {"hold_out": 0.0, "batch": 8, "learning_rate": 3e-3}
    config = AutoencoderConfig(folder=folder, out=tmp_path / "one", **(options | {"images": 800}))
    one = load_autoencoder(train_autoencoder(config, Remembers())).network
    before = load_autoencoder(latent_cases.autoencoder(tmp_path / "random", **latent_cases.SMALL)).network
    assert psnr(one, images) > psnr(before, images) + 5
    more = {name: value for name, value in options.items() if name not in ("factor", "width")}
    config = AutoencoderConfig(
        folder=folder, out=tmp_path / "two", start_from=tmp_path / "one", **(more | {"images": 160})
    )
    assert psnr(load_autoencoder(train_autoencoder(config, Remembers())).network, images) > psnr(one, images) - 1


def test_tuning_another_one_says_nothing_but_the_plan_and_publishes_no_path(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tuned = {"folder": place / "photos", "out": tmp_path / "tuned", "start_from": place / "ae", "size": 32}
    train_autoencoder(AutoencoderConfig(**tuned, images=4, batch=4), Remembers())
    assert capfd.readouterr() == ("", "")  # diffusers warns of what it ignores
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert '"start_from": "ae"' in card
    assert str(place) not in card


def test_an_autoencoder_for_grey_images_is_tuned_with_grey_images_only(place: Path, tmp_path: Path) -> None:
    begin(place, tmp_path / "grey", grey=True)
    found = load_autoencoder(tmp_path / "grey")
    assert (found.image_channels, found.network.config.out_channels) == (1, 1)
    assert "--autoencoder grey --grey" in (tmp_path / "grey" / "README.md").read_text()
    tuned = {"folder": place / "photos", "out": tmp_path / "tuned", "start_from": tmp_path / "grey", "size": 32}
    with pytest.raises(CaptionlessError, match=r"for images of 1 channels, but with `grey=False` they have 3\. Change"):
        train_autoencoder(AutoencoderConfig(**tuned, images=4), Remembers())
    train_autoencoder(AutoencoderConfig(**tuned, images=4, batch=4, grey=True), Remembers())
    assert load_autoencoder(tmp_path / "tuned").image_channels == 1


@pytest.mark.parametrize(
    ("given", "share"),
    [({"images": 32}, 0.5), ({"minutes": 2}, 0.75), ({"images": 32, "minutes": 2}, 0.75), ({}, 0.025)],
)
def test_the_learning_rate_follows_the_clock_only_where_minutes_limit_the_training(
    given: dict[str, Any], share: float, tmp_path: Path
) -> None:
    config = AutoencoderConfig(folder=tmp_path, out=tmp_path / "ae", **({**TINY, "images": None} | given))
    network = load_autoencoder(latent_cases.autoencoder(tmp_path / "small", **latent_cases.SMALL)).network
    training = autoencoder._begin(config, copy.deepcopy(network), (255 * tiny.uniform(4, 3, 32, 32)).byte())
    training.images_seen, training.seconds = 16, 90.0
    training.step()
    (group,) = training.optimizer.param_groups
    assert group["lr"] == pytest.approx(config.learning_rate * 0.5 * (1 + math.cos(math.pi * share)))


def test_features_of_equal_images_are_equal_and_blur_is_seen() -> None:
    distance, images = FeatureDistance(), tiny.uniform(2, 3, 32, 32) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    assert float(distance(images, images)) == pytest.approx(0, abs=1e-6)
    assert float(distance(blurred, images)) > 0.01


def test_unfit_options_are_refused(place: Path, tmp_path: Path) -> None:
    for given, problem in (
        ({"factor": 6}, "must be 2, 4, 8 or 16"),
        ({"start_from": place / "ae"}, "is that of the autoencoder in `start_from`"),
    ):
        with pytest.raises(CaptionlessError, match=problem):
            begin(place, tmp_path / "no", **given)


@pytest.mark.slow
def test_the_command_line_trains_and_resumes(place: Path, run: Callable[..., int]) -> None:
    words = ["autoencoder", str(place / "photos"), "--out", "ae", "--width", "8", "--size", "32", "--factor", "4"]
    assert run(*words, "--images", "16", "--batch", "8") == 0
    assert run(*words, "--images", "32", "--batch", "8", "--resume") == 0
    assert Path("ae", CONFIG).is_file()
