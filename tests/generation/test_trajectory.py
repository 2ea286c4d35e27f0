"""The contract of captionless.generation.trajectory: how pictures come out of the noise."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from captionless.checkpoints.model import Model
from captionless.config.sampling import SAMPLERS, SamplingConfig
from captionless.diffusion.reverse import Step
from captionless.generation import trajectory as film
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.generation.grids import MARGIN, TEXT_HEIGHT
from captionless.generation.trajectory import (
    COLUMNS,
    MAX_FRAMES,
    PAUSE_MILLISECONDS,
    Frame,
    Trajectory,
    animation,
    evenly,
    strip,
)
from tiny import FakeEncoder

QUICK = SamplingConfig(steps=4, precision="float32", batch=2)


@pytest.fixture
def painter(model: Model) -> Generator:
    return Generator(model, FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def frames(count: int, side: int = 8, mode: str = "RGB") -> list[Frame]:
    """Frames of noise, whose predictions grow lighter."""
    rng = np.random.default_rng(0)

    def noise() -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).convert(mode)

    whites = [Image.new("L", (side, side), 255 * i // max(count - 1, 1)).convert(mode) for i in range(count)]
    return [Frame(i, 1 - i / count, noise(), white) for i, white in enumerate(whites)]


# --- collecting ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_last_prediction_is_the_finished_image(sampler: str, painter: Generator) -> None:
    reel = Trajectory(QUICK.steps)
    images = painter.generate("a rose", 3, sampling=replace(QUICK, sampler=sampler), on_step=reel)
    films = reel.take()
    assert [[frame.step for frame in shots] for shots in films] == [[0, 1, 2, 3]] * 3
    assert [[frame.t for frame in shots] for shots in films] == [[1.0, 0.75, 0.5, 0.25]] * 3
    for image, shots in zip(images, films, strict=True):
        assert np.array_equal(np.asarray(shots[-1].x0), np.asarray(image))


def test_the_first_noisy_image_is_the_noise_of_its_seed(painter: Generator) -> None:
    reel = Trajectory(QUICK.steps)
    painter.generate("a rose", 1, 5, QUICK, on_step=reel)
    (alone,) = reel.take()
    painter.generate("a daisy", 3, 4, QUICK, on_step=reel)
    assert reel.take()[1][0].xt == alone[0].xt


def test_frames_are_taken_once(painter: Generator) -> None:
    reel = Trajectory(QUICK.steps)
    assert reel.take() == []
    taken = 0
    for images in painter.stream(["a rose"], 3, sampling=QUICK, on_step=reel):
        films = reel.take()
        assert len(films) == len(images)
        taken += len(films)
    assert taken == 3
    assert reel.take() == []


def test_an_edit_is_filmed_from_its_strength_on(painter: Generator) -> None:
    reel = Trajectory(QUICK.steps)
    painter.generate("a rose", sampling=QUICK, edit=Edit(Image.new("RGB", (8, 8), "red"), 0.4), on_step=reel)
    assert reel.take()[0][0].t == pytest.approx(0.4)


def test_grey_images_are_filmed_in_grey() -> None:
    painter = Generator(tiny.model(channels=1), FakeEncoder(), device="cpu")  # type: ignore[arg-type]
    reel = Trajectory(QUICK.steps)
    painter.generate("a rose", sampling=QUICK, on_step=reel)
    (shots,) = reel.take()
    assert {frame.x0.mode for frame in shots} == {frame.xt.mode for frame in shots} == {"L"}
    assert strip(shots).mode == "RGB"


def test_of_very_many_steps_an_even_choice_is_kept_in_bytes() -> None:
    reel, x = Trajectory(1000), torch.zeros(1, 3, 8, 8)
    for step in range(1000):
        reel(Step(step, 1 - step / 1000, x + 3, x - 0.5))
    (shots,) = reel.take()
    assert len(shots) == MAX_FRAMES
    assert (shots[0].step, shots[-1].step) == (0, 999)
    assert (np.asarray(shots[0].xt) == 255).all()  # beyond the range of pictures: clipped
    assert (np.asarray(shots[0].x0) == 64).all()


@pytest.mark.parametrize(
    ("count", "most"), [(1, 10), (9, 10), (10, 10), (11, 10), (20, 10), (1000, 60), (5, 2), (5, 1)]
)
def test_an_even_choice_has_the_first_and_the_last(count: int, most: int) -> None:
    chosen = evenly(count, most)
    assert len(chosen) == min(count, most)
    assert chosen[-1] == count - 1
    assert chosen[0] == 0 or most == 1
    assert chosen == sorted(set(chosen))
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


# --- the strip ---


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 4), (10, 10), (20, 10), (60, 10)])
def test_a_strip_has_two_rows_of_at_most_ten_steps(count: int, columns: int) -> None:
    sheet = strip(frames(count))
    assert sheet.size == (
        MARGIN + columns * (128 + MARGIN),
        MARGIN + TEXT_HEIGHT + 2 * (TEXT_HEIGHT + 128 + MARGIN),
    )
    assert columns <= COLUMNS
    lower = np.asarray(sheet)[-MARGIN - 64]
    assert (lower[MARGIN + 64] == (0 if count > 1 else lower[MARGIN + 64])).all()  # the first prediction is black
    assert (lower[sheet.width - MARGIN - 64] == (255 if count > 1 else 0)).all()  # and the last is white


def test_a_strip_tells_the_step_and_time_of_each_column(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(film, "sample_grid", lambda rows, labels, cell, heads: told.extend([*labels, *heads]))
    strip(frames(20), columns=3)
    assert told[:2] == ["noisy picture xt", "predicted picture x0"]
    assert told[2:] == ["step 1, t = 1.00", "step 11, t = 0.50", "step 20, t = 0.05"]


# --- the animation ---


@pytest.mark.parametrize(("side", "drawn"), [(8, 128), (32, 128), (200, 200)])
def test_an_animation_shows_every_frame_enlarged_and_pauses_at_the_end(side: int, drawn: int) -> None:
    with Image.open(io.BytesIO(animation(frames(5, side)))) as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 5, 0)
        assert gif.size == (2 * drawn + MARGIN, drawn)
        durations = []
        for i in range(5):
            gif.seek(i)
            durations.append(gif.info["duration"])
            right = np.asarray(gif.convert("RGB"), int)[:, drawn + MARGIN + 8 :]
            assert np.abs(right - 255 * i // 4).max() <= 8  # 256 colours a frame
        assert durations[-1] == PAUSE_MILLISECONDS > 5 * durations[0]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_frame_is_enough(mode: str) -> None:
    with Image.open(io.BytesIO(animation(frames(1, mode=mode)))) as gif:
        assert gif.size == (2 * 128 + MARGIN, 128)
