"""The contract of generation.trajectory: how images emerge from noise, step by step."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from captionless.checkpoints.model import Model
from captionless.config.sampling import SamplingConfig
from captionless.diffusion.sampler_run import Step
from captionless.diffusion.samplers import SAMPLERS
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.generation.grids import MARGIN, TEXT_HEIGHT
from captionless.generation.image import GeneratedImage
from captionless.generation.trajectory import (
    MAX_FRAMES,
    PAUSE_MILLISECONDS,
    Frame,
    Trajectory,
    TrajectoryRecorder,
    choose_frames,
)
from tiny import FakeEncoder

QUICK = SamplingConfig(steps=4, precision="float32", batch=2)


@pytest.fixture
def generator(model: Model) -> Generator:
    return Generator(model, FakeEncoder(), device="cpu")  # type: ignore[arg-type]


def frames(image: GeneratedImage) -> tuple[Frame, ...]:
    assert image.trajectory is not None
    return image.trajectory.frames


def made(count: int, side: int = 8, mode: str = "RGB") -> Trajectory:
    """A trajectory of noise, whose predictions grow lighter."""
    rng = np.random.default_rng(0)

    def noise() -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).convert(mode)

    whites = [Image.new("L", (side, side), 255 * i // max(count - 1, 1)).convert(mode) for i in range(count)]
    return Trajectory(tuple(Frame(i, 1 - i / count, noise(), white) for i, white in enumerate(whites)))


# --- recording ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_last_prediction_is_the_finished_image(sampler: str, generator: Generator) -> None:
    images = generator.generate("a rose", 3, sampling=QUICK.replace(sampler=sampler), trajectory=True)
    assert [[frame.step for frame in frames(image)] for image in images] == [[0, 1, 2, 3]] * 3
    assert [[frame.t for frame in frames(image)] for image in images] == [[1.0, 0.75, 0.5, 0.25]] * 3
    assert all(frames(image)[-1].x0 == image.image for image in images)


def test_the_first_noisy_image_is_the_noise_of_its_seed(generator: Generator) -> None:
    (alone,) = generator.generate("a rose", 1, 5, sampling=QUICK, trajectory=True)
    images = generator.generate("a daisy", 3, 4, sampling=QUICK, trajectory=True)
    assert frames(images[1])[0].xt == frames(alone)[0].xt


def test_only_what_is_requested_is_kept(generator: Generator) -> None:
    (image,) = generator.generate("a rose", sampling=QUICK)
    assert image.trajectory is None


def test_an_edit_is_recorded_from_its_strength_on(generator: Generator) -> None:
    photo = Image.new("RGB", (8, 8), "red")
    (image,) = generator.generate("a rose", sampling=QUICK, edit=Edit(photo, 0.4), trajectory=True)
    assert frames(image)[0].t == pytest.approx(0.4)


def test_grey_images_have_grey_frames() -> None:
    generator = Generator(tiny.model(channels=1), FakeEncoder(), device="cpu")  # type: ignore[arg-type]
    (image,) = generator.generate("a rose", sampling=QUICK, trajectory=True)
    assert {frame.x0.mode for frame in frames(image)} == {frame.xt.mode for frame in frames(image)} == {"L"}


def test_of_very_many_steps_an_even_choice_is_kept_in_bytes() -> None:
    recorder, x = TrajectoryRecorder(1000), torch.zeros(1, 3, 8, 8)
    for step in range(1000):
        recorder.record(Step(step, 1 - step / 1000, x + 3, x - 0.5))
    (kept,) = recorder.take()
    assert len(kept.frames) == MAX_FRAMES
    assert (kept.frames[0].step, kept.frames[-1].step) == (0, 999)
    assert (np.asarray(kept.frames[0].xt) == 255).all()  # beyond the range of pixels: clipped
    assert (np.asarray(kept.frames[0].x0) == 64).all()


@pytest.mark.parametrize(
    ("count", "most"), [(1, 10), (9, 10), (10, 10), (11, 10), (20, 10), (1000, 60), (5, 2), (5, 1)]
)
def test_an_even_choice_has_the_first_and_the_last(count: int, most: int) -> None:
    chosen = choose_frames(count, most)
    assert len(chosen) == min(count, most)
    assert chosen[-1] == count - 1
    assert chosen[0] == 0 or most == 1
    assert chosen == sorted(set(chosen))
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


# --- the strip ---


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 4), (10, 10), (20, 10), (60, 10)])
def test_a_strip_has_two_rows_of_at_most_ten_steps(count: int, columns: int) -> None:
    grid = made(count).strip()
    assert grid.size == (
        MARGIN + columns * (128 + MARGIN),
        MARGIN + TEXT_HEIGHT + 2 * (TEXT_HEIGHT + 128 + MARGIN),
    )
    lower = np.asarray(grid)[-MARGIN - 64]
    assert (lower[MARGIN + 64] == (0 if count > 1 else lower[MARGIN + 64])).all()  # the first prediction is black
    assert (lower[grid.width - MARGIN - 64] == (255 if count > 1 else 0)).all()  # and the last is white


# --- the animation ---


@pytest.mark.parametrize(("side", "drawn"), [(8, 128), (32, 128), (200, 200)])
def test_an_animation_shows_every_frame_enlarged_and_pauses_at_the_end(side: int, drawn: int) -> None:
    with Image.open(io.BytesIO(made(5, side).animation())) as gif:
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
    with Image.open(io.BytesIO(made(1, mode=mode).animation())) as gif:
        assert gif.size == (2 * 128 + MARGIN, 128)
