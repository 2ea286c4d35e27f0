"""The contract of training.expectation: what is said of too few images seen, before and after a training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from captionless.checkpoints.config import TrainingRecord
from captionless.training.expectation import BANDS, STAGE_ENOUGH, shortfall, stage_shortfall, stage_warning


def test_too_few_images_seen_are_told_with_the_minutes_that_are_missing() -> None:
    short = TrainingRecord(images_seen=BANDS[1][0] // 2, minutes=10.0, train_images=1_000)
    assert "continue with `resume=True` and `minutes=21` in all" in shortfall(short)
    assert shortfall(TrainingRecord(images_seen=BANDS[1][0], minutes=10.0)) == ""
    assert (
        shortfall(TrainingRecord(images_seen=BANDS[1][0], minutes=10.0), weights=2_600_000) != ""
    )  # needs more images


def test_a_model_that_hardly_differs_from_the_one_it_started_from_is_told() -> None:
    record = TrainingRecord(images_seen=50, minutes=1.0, train_images=200, initialised_from="parent")
    assert "Only 50 images were seen, and the folder has 200" in shortfall(record)
    assert "`minutes=5` in all" in shortfall(record)
    assert shortfall(replace(record, images_seen=200)) == ""


def test_a_short_plan_without_a_guard_is_not_to_be_continued() -> None:
    record = TrainingRecord(images_seen=400, minutes=3.0, train_images=60, settings={"early_stopping": False})
    assert "no early stopping, and would see each image about 250 times" in shortfall(record)
    assert "train into a new folder" in shortfall(record)
    assert "continue with" not in shortfall(record)
    assert "early stopping" not in shortfall(replace(record, settings={"early_stopping": True}))
    assert "early stopping" not in shortfall(replace(record, train_images=6_000))


def test_of_a_cascade_the_minutes_of_both_stages_are_told() -> None:
    record = TrainingRecord(images_seen=BANDS[1][0] // 2, minutes=6.5, train_images=1_000)
    assert "`minutes=21`" in shortfall(record, part=0.65)


@pytest.mark.parametrize(
    ("length", "told"),
    [
        ({"minutes": 10.0}, "at least `minutes=40`"),
        ({"images": 1_000}, "at least `images=4,000`"),
        ({"minutes": 10.0, "images": 1_000}, "at least `minutes=40` and `images=4,000`"),
    ],
)
def test_a_stage_that_would_see_too_few_images_is_told_with_the_ways_out(length: dict[str, float], told: str) -> None:
    line = stage_warning(STAGE_ENOUGH // 4, length, 32)
    assert told in line.replace("4000", "4,000")
    assert "`size=32`" in line
    assert stage_warning(STAGE_ENOUGH, length, 32) == ""


def test_a_stage_that_has_seen_too_few_images_is_told_at_the_end() -> None:
    record = TrainingRecord(images_seen=STAGE_ENOUGH // 4, minutes=3.5)
    line = stage_shortfall(record, 32, part=0.35)
    assert f"only {STAGE_ENOUGH // 4:,} images" in line
    assert "`minutes=41`" in line
    assert "`size=32`" in line
    assert stage_shortfall(replace(record, images_seen=STAGE_ENOUGH), 32) == ""
    assert stage_shortfall(replace(record, initialised_from="bundled"), 32) == ""
