"""Say what to expect of a training after so many images seen, before it starts and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captionless.checkpoints.config import TrainingRecord
from captionless.config.length import DEFAULT_MINUTES
from captionless.config.training import LIMITS

BANDS = (
    (0, "noise or blots of colour"),
    (15_000, "colours and rough shapes"),
    (40_000, "recognisable kinds"),
    (150_000, "clear kinds"),
    (600_000, "clear kinds with detail"),
)
"""What to expect from a network with random initial weights after so many images seen. Measured with the second network
of ``LADDER`` on 2,192 photographs."""
SMALL, SMALL_EFFORT = 5_000_000, 2.5
"""A network with fewer weights than the first needs more images, by the second factor: after 50,000 on 150 photographs,
the first network of ``LADDER`` drew daisies and tulips, but roses and dandelions only as colours."""
STOP_FROM = 100
"""Repetitions of each image from which on a run is watched and may be stopped early."""
STAGE_ENOUGH = 20_000
"""Images that a super-resolution stage with random weights should see at least: a rule of thumb. After 6,640, it still
drew noise (docs/train.md)."""


def bands_of(weights: int) -> list[tuple[int, str]]:
    """Return what to expect from a network with so many weights, and after how many images seen."""
    effort = SMALL_EFFORT if weights < SMALL else 1
    return [(round(effort * least), text) for least, text in BANDS]


def expectation(images: int, per_second: float | None = None, weights: int = SMALL) -> str:
    """Return what to expect after so many images seen and, if the speed is known, how long the next band takes.

    Args:
        images: images seen.
        per_second: images seen per second.
        weights: number of weights of the network.
    """
    bands = bands_of(weights)
    reached = [text for least, text in bands if least <= images][-1]
    beyond = next(((least, text) for least, text in bands if least > images), None)
    if beyond is None or not per_second:
        return reached
    return f"{reached}; {rounded(beyond[0] / per_second / 60):,} minutes for {beyond[1]}"


def unguarded(images: int, record: TrainingRecord) -> str:
    """Return a remark if a resumed run would see its images so often that a new run would be watched, else nothing."""
    fault = _unwatched(images, record)
    return f" A resumed run {fault}: for a long run, start a new folder." if fault else ""


def shortfall(record: TrainingRecord, weights: int = SMALL, part: float = 1.0) -> str:
    """Return advice if a network with random initial weights has seen too few images; else an empty string.

    Args:
        record: of its training.
        weights: number of weights of the network.
        part: its share of the length of the whole run, of which a cascade has two stages.
    """
    seen, (enough, text) = record.images_seen, bands_of(weights)[1]
    if record.initialised_from:
        return _hardly_changed(record, part)
    if record.kept_images is not None or seen >= enough:
        return ""
    advice = f"Only {seen:,} images were seen: expect {BANDS[0][1]}. From about {enough:,} on there are {text}"
    minutes, fault = _minutes(record, enough, part), _unwatched(enough, record)
    if minutes and fault:
        return f"{advice}: train into a new folder with `minutes={minutes}`. (This one, resumed, {fault}.)"
    return f"{advice}{_continued(record, enough, part, ': ')}."


def stage_warning(images: int, length: Mapping[str, Any], base_size: int) -> str:
    """Return a warning if a super-resolution stage with random weights would see too few images, else nothing.

    Args:
        images: images that the stage would see.
        length: the length of the whole run: ``minutes``, ``images`` or both.
        base_size: the size of the images without the stage, in pixels.
    """
    if images >= STAGE_ENOUGH:
        return ""
    factor = STAGE_ENOUGH / max(1, images)
    length = length if any(length.get(name) for name in LIMITS) else {"minutes": DEFAULT_MINUTES}
    more = " and ".join(f"`{name}={rounded(factor * length[name])}`" for name in LIMITS if length.get(name))
    return (
        f" That is too few images: the stage would add noise, and does not add detail before it has seen about "
        f"{STAGE_ENOUGH:,}. Give the training at least {more}, or leave it out with `size={base_size}`."
    )


def stage_shortfall(record: TrainingRecord, base_size: int, part: float = 1.0) -> str:
    """Return advice if a super-resolution stage with random initial weights has seen too few images, else nothing.

    Args:
        record: of the training of the stage.
        base_size: the size of the images without the stage, in pixels.
        part: the share of the stage in the length of the whole run.
    """
    if record.initialised_from or record.images_seen >= STAGE_ENOUGH:
        return ""
    return (
        f"The super-resolution stage has seen only {record.images_seen:,} images: expect noise in place of detail. It "
        f"should see about {STAGE_ENOUGH:,}{_continued(record, STAGE_ENOUGH, part, ': ')}; `size={base_size}` "
        "generates without it."
    )


def _hardly_changed(record: TrainingRecord, part: float) -> str:
    """Return advice if a network that started from another has not even seen each image once, else nothing."""
    seen, images = record.images_seen, record.train_images
    if seen >= images:
        return ""
    return (
        f"Only {seen:,} images were seen, and the folder has {images:,}: the model still draws nearly what the one "
        f"draws that it started from{_continued(record, images, part, '. To see each image once, ')}."
    )


def _unwatched(images: int, record: TrainingRecord) -> str:
    """Return what is wrong with resuming a run that would see its images so often that a new one would be watched."""
    times = images / max(1, record.train_images + record.held_out)
    if record.settings.get("early_stopping") or times <= STOP_FROM:
        return ""
    return f"keeps its plan, which has no early stopping, and would see each image about {rounded(times):,} times"


def _continued(record: TrainingRecord, enough: int, part: float, before: str) -> str:
    """Return how to continue a run until so many images are seen, after some words; empty if its speed is unknown."""
    minutes = _minutes(record, enough, part)
    return f"{before}continue with `resume=True` and `minutes={minutes}` in all" if minutes else ""


def _minutes(record: TrainingRecord, enough: int, part: float) -> int:
    """Return the length of the whole run in which so many images are seen; 0 if its speed is unknown."""
    if not (record.minutes and record.images_seen):
        return 0
    return rounded(record.minutes / part * enough / record.images_seen) + 1


def rounded(value: float) -> int:
    """Round to two significant digits."""
    return int(float(f"{value:.2g}"))
