"""A cascade trained by one command: base model first, then its super-resolution stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import encoder_factory
from captionless.checkpoints.config import BASE, load_config
from captionless.checkpoints.model import load_model
from captionless.config.sampling import SamplingConfig
from captionless.config.train_request import TrainRequest
from captionless.errors import CaptionlessError
from captionless.generation.generator import load
from captionless.training.expectation import STAGE_ENOUGH
from captionless.training.rehearsal import Rehearse
from captionless.training.run import train
from captionless.training.stages import CASCADE_IMAGES, plan_stages, split
from training_cases import Remembers, StopsAt, same_state, save_photos

TINY: dict[str, Any] = {"width": 16, "batch": 4, "images": 40, "precision": "float32", "sample_grids": 0}
BOTH: dict[str, Any] = TINY | {"size": 16, "base_size": 8}


pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(encoder_factory.small_pair(tmp_path_factory.mktemp("encoder")))


class Bar(Remembers):
    """Keeps what the bar of the training showed, in thousandths."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    def advance(self, task: str, done: int, total: int, detail: str = "") -> None:
        if task == "Training":
            self.done.append(done)


@pytest.fixture(scope="module")
def bar() -> Bar:
    return Bar()


@pytest.fixture(scope="module")
def whole(photos: Path, encoder: str, bar: Bar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(photos, tmp_path_factory.mktemp("whole") / "model", encoder=encoder, progress=bar, **BOTH)


def test_one_command_makes_a_whole_cascade_and_divides_the_length(whole: Path) -> None:
    model = load_model(whole)
    assert model.base is not None
    assert (model.config.size, model.base.config.size) == (16, 8)
    images = [one.training.settings["images"] for one in (model.base.config, model.config)]
    assert images == [26, 14]
    assert load(whole).generate("a rose", sampling=SamplingConfig(steps=2))[0].image.size == (16, 16)


@pytest.mark.parametrize("thousandths", [200, 800])
def test_an_interrupted_cascade_goes_on_in_either_stage_as_if_it_had_never_stopped(
    thousandths: int, whole: Path, photos: Path, encoder: str, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        train(photos, part, encoder=encoder, progress=StopsAt(thousandths), **BOTH)
    size = 8 if thousandths < 650 else 16
    assert load(part).generate("a rose", sampling=SamplingConfig(steps=1))[0].image.size == (size, size)
    train(photos, part, resume=True)
    assert same_state(whole, part)
    assert same_state(whole / BASE, part / BASE)


def test_a_cascade_that_is_interrupted_twice_keeps_the_settings_of_its_second_stage(
    whole: Path, photos: Path, encoder: str, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        train(photos, part, encoder=encoder, progress=StopsAt(200), **BOTH)
    with pytest.raises(KeyboardInterrupt):
        train(photos, part, resume=True, progress=StopsAt(400))
    train(photos, part, resume=True)
    assert same_state(whole, part)


def test_a_longer_cascade_extends_both_stages(whole: Path, photos: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "model"))
    train(photos, out, resume=True, images=80)
    seen = [load_config(folder).training.images_seen for folder in (out / BASE, out)]
    assert seen == [52, 28]


def test_one_bar_shows_both_stages(whole: Path, bar: Bar) -> None:
    assert bar.done == sorted(bar.done)
    assert bar.done[-1] == 1000
    assert 650 in bar.done


def test_a_stage_that_has_seen_too_few_images_is_told_at_the_end(whole: Path, bar: Bar) -> None:
    assert any("The super-resolution stage has seen only 16 images" in line for line in bar.said)


def test_a_cascade_that_is_there_is_neither_overwritten_nor_split_anew(
    whole: Path, photos: Path, encoder: str, tmp_path: Path
) -> None:
    with pytest.raises(CaptionlessError, match="already contains a model"):
        train(photos, whole, encoder=encoder, **BOTH)
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        train(photos, part, encoder=encoder, progress=StopsAt(200), **BOTH)
    with pytest.raises(CaptionlessError, match="already contains a model"):
        train(photos, part, encoder=encoder, **BOTH)
    with pytest.raises(CaptionlessError, match="base_size=8"):
        train(photos, tmp_path / "up", enlarge=whole, base_size=8, images=4)


def test_a_run_from_a_cascade_trains_both_of_its_stages(whole: Path, photos: Path, tmp_path: Path) -> None:
    given = TINY | {"images": 16, "learning_rate": 1e-12}
    del given["width"]
    out = train(photos, tmp_path / "model", start_from=whole, **given)
    old, new = load_model(whole), load_model(out)
    assert new.base is not None
    assert old.base is not None
    assert (new.config.size, new.base.config.size) == (16, 8)
    for before, after in ((old, new), (old.base, new.base)):
        weights = after.denoiser.state_dict()
        for name, weight in before.denoiser.state_dict().items():
            assert (weights[name] - weight).abs().max() < 1e-5, name
    single = train(photos, tmp_path / "single", start_from=whole, size=8, **given)
    assert load_config(single).base_size is None


@pytest.mark.slow
def test_an_interrupted_run_from_a_cascade_needs_no_flags_to_go_on(whole: Path, photos: Path, tmp_path: Path) -> None:
    given = {"batch": 4, "images": 40, "precision": "float32", "sample_grids": 0, "hold_out": 0.3, "seed": 3}
    straight = train(photos, tmp_path / "straight", start_from=whole, **given)
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "part", start_from=whole, progress=StopsAt(300), **given)
    part = train(photos, tmp_path / "part", resume=True)
    assert same_state(straight, part)
    assert load_config(part).training.held_out == load_config(straight).training.held_out > 0


@pytest.mark.slow
def test_an_interrupted_cascade_of_classes_goes_on_with_its_classes(photos: Path, tmp_path: Path) -> None:
    straight = train(photos, tmp_path / "straight", classes=True, **BOTH)
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "part", classes=True, progress=StopsAt(300), **BOTH)
    assert same_state(straight, train(photos, tmp_path / "part", resume=True))


def test_a_plan_is_told_and_nothing_is_written(photos: Path, tmp_path: Path) -> None:
    progress = Remembers()
    out = train(photos, tmp_path / "model", plan=True, progress=progress, **BOTH)
    assert not out.exists()
    (line,) = progress.said
    assert "8 x 8 pixels" in line
    assert "super-resolution stage to 16 pixels" in line


def test_the_plan_is_written_down_and_told_again_when_resumed(whole: Path, photos: Path) -> None:
    plan = load_config(whole / BASE).training.plan
    assert plan["expected_images"] == 26
    assert "8 x 8 pixels" in plan["text"]
    progress = Remembers()
    train(photos, whole, resume=True, plan=True, progress=progress)
    assert plan["text"] in progress.said[0]
    train(photos, whole, resume=True, plan=True, images=80, progress=progress)
    assert "about 52 images seen" in progress.said[1]
    assert "Then, for 28 images, a super-resolution stage to 16 pixels." in progress.said[1]


def rate(images_per_second: float) -> Rehearse:
    return lambda start, config: images_per_second


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        ({}, 2),
        ({"minutes": 1.0}, 1),
        ({"minutes": 5.5}, 1),  # the second stage costs eight times as much, and would see too few images
        ({"minutes": 10.0}, 2),
        ({"images": CASCADE_IMAGES}, 1),
        ({"images": 2 * CASCADE_IMAGES}, 2),
        ({"images": 2 * CASCADE_IMAGES, "size": 64}, 2),
        ({"images": 2 * CASCADE_IMAGES, "size": 32}, 1),
        ({"images": 2 * CASCADE_IMAGES, "width": 48}, 1),
    ],
)
def test_a_new_training_becomes_a_cascade_where_time_allows(given: dict[str, Any], stages: int, tmp_path: Path) -> None:
    encoder_factory.pictures(1, side=80)[0].save(tmp_path / "large.png")
    request = TrainRequest(folder=tmp_path, out=tmp_path.with_name("model"))
    found = plan_stages(request, given, rate(1000.0), lambda _: None)
    assert len(found) == stages
    if stages == 2:
        sizes = [stage.given["size"] for stage in found]
        assert sizes[1] == 2 * sizes[0]
        assert found[0].span[1] == found[1].span[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"minutes": 1.0}, True),
        ({"minutes": 10_000.0}, False),
        ({"images": 3 * STAGE_ENOUGH - 9_000}, True),
        ({"images": 3 * STAGE_ENOUGH}, False),
    ],
)
def test_a_plan_warns_of_a_second_stage_that_would_only_add_noise(
    given: dict[str, Any], told: bool, photos: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    request = TrainRequest(folder=photos, out=tmp_path / "model", base_size=32)
    plan_stages(request, given | {"size": 128}, rate(100.0), said.append)
    assert ("the stage would add noise" in said[0]) is told
    assert ("or leave it out with `size=32`" in said[0]) is told


def test_a_cascade_that_starts_from_another_has_a_stage_that_adds_detail(
    whole: Path, photos: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    request = TrainRequest(folder=photos, out=tmp_path / "model", start_from=whole)
    plan_stages(request, {"images": 40}, rate(100.0), said.append)
    assert "noise" not in said[0]


def test_small_images_get_no_second_stage(photos: Path, tmp_path: Path) -> None:
    request = TrainRequest(folder=photos, out=tmp_path / "model")
    assert len(plan_stages(request, {}, rate(1000.0), lambda _: None)) == 1


def test_the_two_stages_share_the_minutes(photos: Path, tmp_path: Path) -> None:
    request = TrainRequest(folder=photos, out=tmp_path / "model", base_size=32)
    for given, minutes in (({"minutes": 10.0}, 10), ({}, 60)):
        assert sum(stage.given["minutes"] for stage in split(request, given)) == pytest.approx(minutes)
