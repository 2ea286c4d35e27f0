"""The contract of training.plan: what is chosen from folder, time and speed, and what is promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from captionless.checkpoints.config import EncoderReference, ModelConfig, TrainingRecord
from captionless.config.presets import COURSE_TRAINING
from captionless.config.training import TrainConfig
from captionless.data.summary import FolderFacts
from captionless.latents.autoencoder import Autoencoder
from captionless.latents.space import LatentSpace
from captionless.training.expectation import BANDS, STAGE_ENOUGH, expectation
from captionless.training.network import network_config
from captionless.training.plan import (
    LADDER,
    STEPS,
    Outlook,
    batch_size,
    extended,
    plan_run,
)
from captionless.training.rehearsal import flops, rehearsed_shape
from captionless.training.start import Start


class Machine:
    """A machine that trains the smallest network at so many images a second, and others by their arithmetic."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.rehearsed: list[TrainConfig] = []

    def __call__(self, start: Start, config: TrainConfig) -> float:
        self.rehearsed.append(config)
        smallest = TrainConfig(size=32, width=32, tokens=4)
        work = flops(rehearsed_shape(Start(), smallest), 32), flops(rehearsed_shape(start, config), config.size)
        return self.rate * work[0] / work[1]


PHOTOS = FolderFacts(48, 400, transparent=0.0, pixel_art=0.0)


def planned(
    rate: float = 100, folder: int = 5_000, start: Start | None = None, facts: FolderFacts = PHOTOS, **given: Any
) -> Outlook:
    return plan_run(start or Start(), given, folder, Machine(rate), by_class=False, facts=facts)


def rung(outlook: Outlook) -> int:
    return max(i for i, one in enumerate(LADDER) if one.settings.items() <= outlook.given.items())


def test_the_network_is_the_largest_that_the_time_can_fill() -> None:
    rungs = [rung(planned(minutes=minutes)) for minutes in (2, 10, 60, 600, 100_000)]
    assert rungs == sorted(rungs)
    assert (rungs[0], rungs[-1]) == (0, len(LADDER) - 1)
    for minutes in (2, 10, 60, 600):
        outlook = planned(minutes=minutes)
        assert outlook.images >= LADDER[rung(outlook)].images


def test_a_faster_machine_gets_a_larger_network_in_the_same_time() -> None:
    assert rung(planned(100, minutes=10)) == 0
    assert rung(planned(100_000, minutes=10)) == len(LADDER) - 1


def test_a_small_folder_gets_a_small_network_and_dropout_once_its_images_return_often() -> None:
    few, many = planned(folder=60, minutes=600), planned(folder=50_000, minutes=600)
    assert (rung(few), few.given["dropout"]) == (0, 0.1)
    assert "dropout" not in many.given
    assert rung(many) > 0


AGAINST = ("crop", "dropout", "early_stopping", "hold_out")
"""The settings against memorising."""


@pytest.mark.parametrize(
    ("folder", "images", "expected"),
    [
        (40, 3_900, {}),
        (40, 4_100, {"early_stopping": True}),
        (40, 6_100, {"crop": 0.6, "early_stopping": True}),
        (40, 20_100, {"crop": 0.6, "dropout": 0.1, "early_stopping": True}),
        (150, 76_000, {"crop": 0.6, "dropout": 0.1, "early_stopping": True, "hold_out": 0.1}),
        (5_000, 76_000, {}),
    ],
)
def test_the_more_often_an_image_returns_the_more_is_done_against_memorising(
    folder: int, images: int, expected: dict[str, Any]
) -> None:
    given = planned(folder=folder, images=images).given
    assert {name: given[name] for name in AGAINST if name in given} == expected


def test_small_images_that_the_least_size_for_latents_enlarges_are_told_of_and_that_images_are_encoded() -> None:
    space = LatentSpace(Autoencoder("taesd", Path("taesd"), "0" * 64, None, image_channels=3, channels=4, factor=8))
    start, small = Start(space=space), replace(PHOTOS, shorter_side=40)

    def told(**given: Any) -> str:
        given |= {"images": 5_000}
        return plan_run(start, given, 400, Machine(1), by_class=False, facts=small).describe()

    assert "Images are enlarged to 128 pixels: their shorter side has 40." in told()
    assert "encodes the 400 images once" in told()
    assert "are enlarged" not in told(size=128)
    pixels = planned(folder=400, images=5_000).describe()
    assert "are enlarged" not in pixels
    assert "encodes" not in pixels


def test_pixel_art_is_not_cropped_nor_are_images_of_a_class_held_out() -> None:
    drawn = planned(folder=40, images=20_100, facts=replace(PHOTOS, pixel_art=0.9)).given
    assert "crop" not in drawn
    assert drawn["early_stopping"]
    classes = plan_run(Start(), {"images": 76_000}, 150, Machine(1), by_class=True, facts=PHOTOS).given
    assert "hold_out" not in classes
    assert classes["early_stopping"]


def test_what_is_done_against_memorising_is_told_and_given_settings_win() -> None:
    line = planned(folder=150, images=76_000).describe()
    assert line.endswith(
        " Each image would be seen about 510 times; against memorising: crops, dropout, 10% held out, early stopping."
    )
    given = {"crop": 1.0, "dropout": 0.0, "early_stopping": False, "hold_out": 0.0}
    outlook = planned(folder=150, images=76_000, **given)
    assert {name: outlook.given[name] for name in given} == given
    assert "memorising" not in outlook.describe()


def test_the_promise_is_the_speed_of_the_network_that_was_chosen_times_the_minutes() -> None:
    machine = Machine(100)
    outlook = plan_run(Start(), {"minutes": 60}, 5_000, machine, by_class=False, facts=PHOTOS)
    last = machine.rehearsed[-1]
    assert outlook.per_second == machine(Start(), last)
    assert outlook.images == round(3600 * outlook.per_second)
    assert {name: getattr(last, name) for name in ("width", "size", "batch", "tokens")} == {
        name: outlook.given[name] for name in ("width", "size", "batch", "tokens")
    }
    assert len(machine.rehearsed) <= 3


def test_tiny_images_are_not_enlarged_unless_a_size_is_given() -> None:
    for given, size in (({}, 16), ({"size": 32}, 32)):
        outlook = planned(1, 150, facts=replace(PHOTOS, shorter_side=20), images=1_000, **given)
        assert outlook.given["size"] == size


def test_given_settings_win() -> None:
    given = {"size": 64, "width": 48, "batch": 8, "warm_up": 77, "tokens": 0, "dropout": 0.3, "weighting": "uniform"}
    outlook = planned(folder=60, minutes=600, **given)
    assert {name: outlook.given[name] for name in given} == given


def test_without_minutes_nothing_is_rehearsed_and_the_same_is_planned_everywhere() -> None:
    machine = Machine(100)
    machines = (machine, Machine(1e6))
    outlooks = [plan_run(Start(), {"images": 40_000}, 150, one, by_class=False, facts=PHOTOS) for one in machines]
    assert outlooks[0] == outlooks[1]
    assert machine.rehearsed == []
    assert (outlooks[0].images, outlooks[0].per_second) == (40_000, None)


def test_whichever_of_minutes_and_images_ends_first_counts() -> None:
    assert planned(minutes=10, images=500).images == 500
    assert planned(minutes=1, images=10**9).images < 10**9


@pytest.mark.parametrize("images", [1, 24, 40_000, 100_000, 10**7])
def test_batches_are_small_where_steps_would_be_few(images: int) -> None:
    batch = batch_size(images)
    assert batch in (16, 32, 64, 128, 256)
    assert batch == 16 or images // batch >= STEPS
    assert batch == 256 or images // (2 * batch) < STEPS


def test_the_warm_up_is_a_share_of_the_length() -> None:
    short, long = planned(minutes=2), planned(minutes=20)
    for outlook in (short, long):
        assert outlook.given["warm_up"] == pytest.approx(0.05 * outlook.images, abs=1)


def test_the_model_of_courses_stays_what_it_is() -> None:
    outlook = planned(minutes=60, **COURSE_TRAINING)
    assert {name: outlook.given[name] for name in COURSE_TRAINING} == COURSE_TRAINING
    config = planned(minutes=60, network="course").given
    assert "tokens" not in config


def test_a_run_that_starts_from_a_model_keeps_its_network_and_promises_no_kind_of_image() -> None:
    config = TrainConfig(size=8, width=16)
    shape = network_config(Start(), config, tiny.WIDTH)
    record = TrainingRecord(settings=config.model_dump(mode="json"))
    parent = ModelConfig(8, shape, EncoderReference("fake", "0" * 64, tiny.WIDTH, 20.0), training=record)
    outlook = planned(folder=40, start=Start(parent, "parent"), minutes=600)
    assert [name for name in AGAINST if name in outlook.given] == ["early_stopping"]  # its network knows no crops
    assert not set(outlook.given) & {"width", "tokens", "multipliers"}
    assert outlook.given["size"] == 8
    assert not any(text in outlook.describe() for _, text in BANDS)


def test_the_plan_says_in_one_line_what_to_expect_and_when_more() -> None:
    line = Outlook({"size": 32, "batch": 16, "minutes": 10.0}, 20_400, 34.0, 9_600_000).describe()
    assert line == (
        "32 x 32 pixels, 9.6 million weights, batches of 16, about 20,000 images seen in 10 minutes (34 per second): "
        f"{BANDS[1][1]}; 20 minutes for {BANDS[2][1]}."
    )
    small = Outlook({"size": 32, "batch": 16, "minutes": 10.0}, 20_400, 34.0, 2_600_000).describe()
    assert small.endswith(f": {BANDS[0][1]}; 18 minutes for {BANDS[1][1]}.")  # it needs more images
    assert expectation(10**9, 1.0) == BANDS[-1][1]
    assert expectation(0) == BANDS[0][1]


@pytest.mark.parametrize(("images", "told"), [(STAGE_ENOUGH - 1, True), (STAGE_ENOUGH, False)])
def test_a_new_stage_that_would_only_add_noise_is_told_before_it_is_trained(images: int, told: bool) -> None:
    minutes = {"minutes": 10.0}
    line = Outlook(minutes, images, 34.0, fresh=False, upsamples=64).describe()
    assert ("That is too few images: the stage would add noise" in line) is told
    assert "too few" not in Outlook(minutes, images, 34.0, fresh=False, continues=True).describe()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"minutes": 20.0}, "about 12,000 images seen in 20 minutes (10 per second): "),
        ({"images": 5_000}, "about 5,000 images seen: "),
        ({"minutes": 20.0, "images": 5_000}, "about 5,000 images seen in 20 minutes (10 per second): "),
    ],
)
def test_the_plan_of_a_resumed_run_is_that_of_the_length_it_is_given(given: dict[str, Any], line: str) -> None:
    config = TrainConfig(size=8, width=16, minutes=2.0)
    shape = network_config(Start(), config, tiny.WIDTH)
    record = TrainingRecord(
        settings=config.model_dump(mode="json"), images_seen=1_200, minutes=2.0, plan={"images_per_second": 99.0}
    )
    begun = ModelConfig(8, shape, EncoderReference("fake", "0" * 64, tiny.WIDTH, 20.0), training=record)
    outlook = extended(begun, given)
    assert outlook is not None
    assert line in outlook.describe()  # by the speed that it had, not by that of the rehearsal


@pytest.mark.parametrize(("given", "least"), [({}, 32), ({"optimizer": "adamw"}, 16), ({"batch": 8}, 8)])
def test_batches_are_no_smaller_than_pays_for_a_step_of_the_optimizer(given: dict[str, Any], least: int) -> None:
    outlook = plan_run(Start(), {"images": 500} | given, 400, Machine(1), by_class=False, facts=PHOTOS)
    assert outlook.given["batch"] == least


def test_pixel_art_is_trained_on_all_noise_levels_alike_but_for_its_detail(tmp_path: Path) -> None:
    drawn = replace(PHOTOS, shorter_side=32, pixel_art=0.9)

    def weighting(facts: FolderFacts, **start: Any) -> str:
        given = {"size": 64, "images": 40_000}
        found = plan_run(Start(**start), given, 400, Machine(1), by_class=False, facts=facts).given["weighting"]
        return str(found)

    assert (weighting(drawn), weighting(PHOTOS)) == ("uniform", "log-normal")
    assert weighting(drawn, base=tiny.saved(tiny.model(), tmp_path / "base")) == "log-normal"


def test_a_plan_from_another_model_says_that_it_draws_already() -> None:
    said = "draws already"
    assert said in Outlook({}, 190, fresh=False, continues=True).describe()
    assert said not in Outlook({}, 190, fresh=False).describe()  # a super-resolution stage with random weights


@pytest.mark.parametrize(("threads", "told"), [(None, False), (1, True), (4, False)])
def test_a_plan_says_if_it_has_fewer_threads_than_it_may_use(
    threads: int | None, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionless.training.plan.usable_cpus", lambda: 4)
    assert ("with 1 of 4 CPU threads" in Outlook({}, 190, per_second=3.0, threads=threads).describe()) is told
