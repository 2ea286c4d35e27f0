"""The contract of captionless.training.state: how far a training is, and what an exact resume needs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from bit_flips import flipped
from captionless.checkpoints.model import STATE
from captionless.config.length import DEFAULT_MINUTES
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.errors import CaptionlessError
from captionless.models.unet import Denoiser
from captionless.tensor_files import read_about, read_tensors, save_tensors
from captionless.training.state import FORMAT, LOSS_DECAY, TrainState, begin_state, restore_state, save_state

CONFIG = TrainConfig(size=8, width=16, batch=4, images=24, precision="float32")
LONG = CONFIG.replace(images=100_000, learning_rate=1.0, batch=64)


def fresh(config: TrainConfig = CONFIG, seed: int = 0, **shape: Any) -> TrainState:
    torch.manual_seed(seed)
    network = Denoiser(replace(tiny.SHAPE, **shape)).train()
    return begin_state(network.to(memory_format=torch.channels_last), config, CosineSchedule())  # type: ignore[call-overload]


def moved(state: TrainState) -> TrainState:
    """Take a step, so that the optimizer has moments."""
    for weights in state.network.parameters():
        weights.grad = torch.ones_like(weights)
    state.optimizer.step()
    state.images_seen, state.seconds = 4, 12.345678901234
    state.loss_average.fill_(0.01)
    return state


def at(config: TrainConfig, images: int, seconds: float = 0.0) -> TrainState:
    state = fresh(config)
    state.images_seen, state.seconds = images, seconds
    return state


# --- how far a training is ---


@pytest.mark.parametrize(
    ("images", "minutes", "expected"),
    [(1000, None, 0.25), (None, 10.0, 0.5), (1000, 10.0, 0.5), (300, 10.0, 250 / 300), (100, None, 1.0)],
)
def test_progress_is_by_images_or_minutes_whichever_is_further(
    images: int | None, minutes: float | None, expected: float
) -> None:
    assert at(CONFIG.replace(images=images, minutes=minutes), 250, 300.0).progress == pytest.approx(expected)


def test_a_training_of_no_stated_length_lasts_the_default_minutes() -> None:
    assert at(CONFIG.replace(images=None), 0, 30 * DEFAULT_MINUTES).progress == pytest.approx(0.5)


def test_the_learning_rate_rises_linearly_stays_and_at_last_falls_linearly_to_zero() -> None:
    def rates(config: TrainConfig, *images: int) -> list[float]:
        return [at(config, seen).learning_rate for seen in images]

    assert rates(LONG, 0, 64, 3200 - 64) == pytest.approx([0.01, 0.02, 0.5])
    assert rates(LONG, 6400, 30_000, 60_000) == pytest.approx([1, 1, 1])
    assert rates(LONG, 80_000, 100_000) == pytest.approx([0.5, 0])
    assert rates(LONG.replace(images=400_000), 100_000) == [1]  # a finished training that is lengthened
    assert rates(LONG.replace(warm_up=640, cool_down=0.2), 0, 80_000, 90_000) == pytest.approx([0.1, 1, 0.5])


def test_minutes_drive_the_learning_rate_too() -> None:
    config = LONG.replace(images=None, minutes=10.0)
    seen = [at(config, 50_000, seconds).learning_rate for seconds in (60, 300, 480, 600)]
    assert seen == pytest.approx([1, 1, 0.5, 0])


# --- saving and restoring ---


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(tmp_path, moved(fresh()))
    return tmp_path


def test_restoring_brings_back_all_that_was_saved(saved: Path, tmp_path: Path) -> None:
    restored = fresh(seed=1)
    restore_state(saved, restored)
    assert (restored.images_seen, restored.seconds) == (4, 12.345678901234)
    assert torch.equal(restored.loss_average, torch.tensor(0.01))
    assert restored.loss == pytest.approx(1)  # the average of one step, without the zero it starts from
    before = read_tensors(saved / STATE)
    save_state(tmp_path / "again", restored)
    again = read_tensors(tmp_path / "again" / STATE)
    assert before.keys() == again.keys()
    assert any(name.startswith("optimizer.0.exp_avg") for name in before)
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_what_is_restored_has_the_memory_layout_of_its_weights(saved: Path) -> None:
    """Files know one layout, convolutions like another; a mixture is slow and may round differently."""
    restored = fresh(seed=1)
    restore_state(saved, restored)
    for weights, moments in restored.optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert moments[name].stride() == weights.stride()


def test_a_training_that_has_not_taken_a_step_can_be_saved_too(tmp_path: Path) -> None:
    save_state(tmp_path, fresh())
    restored = fresh(seed=1)
    restore_state(tmp_path, restored)
    assert restored.images_seen == 0
    assert math.isnan(restored.loss)


def test_sixty_flipped_bits_of_a_state_are_all_noticed(saved: Path) -> None:
    restored = fresh()
    for _ in flipped(saved / STATE):
        with pytest.raises(CaptionlessError, match="is damaged"):
            restore_state(saved, restored)
    restore_state(saved, restored)


def test_a_missing_or_truncated_state_is_named(saved: Path) -> None:
    (saved / STATE).write_bytes((saved / STATE).read_bytes()[:-5])
    with pytest.raises(CaptionlessError, match="is damaged"):
        restore_state(saved, fresh())
    with pytest.raises(CaptionlessError, match="is missing"):
        restore_state(saved / "nowhere", fresh())


def test_the_state_of_another_network_does_not_fit(saved: Path) -> None:
    with pytest.raises(CaptionlessError, match=f"does not match this model.*start_from={saved}"):
        restore_state(saved, fresh(width=32))


COUNTER: dict[str, Any] = {"format": FORMAT, "images": 4, "seconds": 1.0, "loss_average": 0.1, "looks": {}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": -4},
        {"images": 4.5},
        {"images": "4"},
        {"images": True},
        {"seconds": -1.0},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"loss_average": "0.1"},
        {"loss_average": math.inf},
        {"loss_average": -0.1},
        {"looks": {"images": -1}},
        {"looks": {"stopped": 1}},
        {"looks": None},
    ],
    ids=str,
)
def test_counters_of_the_wrong_type_or_sign_are_refused(wrong: dict[str, Any], saved: Path) -> None:
    tensors = read_tensors(saved / STATE)
    save_tensors(saved / STATE, tensors, {"counter": json.dumps(COUNTER)})
    restore_state(saved, fresh())
    save_tensors(saved / STATE, tensors, {"counter": json.dumps(COUNTER | wrong)})
    with pytest.raises(CaptionlessError, match="does not match"):
        restore_state(saved, fresh())


@pytest.mark.parametrize("shape", [(3,), (1, 1), (0,)])
def test_moments_of_another_shape_are_refused(shape: tuple[int, ...], saved: Path) -> None:
    tensors = read_tensors(saved / STATE)
    name = next(name for name in tensors if name.endswith("exp_avg"))
    about = read_about(saved / STATE)
    save_tensors(saved / STATE, tensors | {name: torch.zeros(shape)}, {"counter": about["counter"]})
    with pytest.raises(CaptionlessError, match="does not match"):
        restore_state(saved, fresh())


@pytest.mark.parametrize("part", ["network", "average", "moments"])
def test_nothing_that_is_not_finite_is_written(part: str, saved: Path) -> None:
    good, state = (saved / STATE).read_bytes(), moved(fresh())
    moments = next(iter(state.optimizer.state.values()))["exp_avg"]
    weight = {"network": state.network.head.weight, "average": state.average.head.weight, "moments": moments}[part]
    with torch.no_grad():
        weight[(-1,) * weight.ndim] = math.inf
    with pytest.raises(CaptionlessError, match="non-finite"):
        save_state(saved, state)
    assert (saved / STATE).read_bytes() == good
    assert list((saved / STATE).parent.iterdir()) == [saved / STATE]


def test_the_state_of_another_training_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, moved(fresh()), "one")
    restore_state(tmp_path, fresh(), "one")
    with pytest.raises(CaptionlessError, match="belongs to another model"):
        restore_state(tmp_path, fresh(), "another")


@pytest.mark.parametrize("metadata", [None, {"counter": "{"}, {"counter": '{"steps": 3}'}, {"counter": "7"}])
def test_a_state_without_a_proper_counter_does_not_fit(metadata: dict[str, str] | None, saved: Path) -> None:
    tensors = {name: value for name, value in read_tensors(saved / STATE).items() if not name.startswith("optimizer")}
    save_tensors(saved / STATE, tensors, metadata)
    with pytest.raises(CaptionlessError, match="does not match"):
        restore_state(saved, fresh())


def test_a_training_of_an_earlier_version_is_not_resumed_with_other_random_numbers(saved: Path) -> None:
    counter = {"counter": '{"images": 4, "seconds": 1.0, "loss": 0.5}'}
    save_tensors(saved / STATE, read_tensors(saved / STATE), counter)
    with pytest.raises(CaptionlessError, match=f"another version.*start_from={saved}"):
        restore_state(saved, fresh())


def test_the_loss_is_the_average_over_the_steps_so_far_without_the_zero_it_starts_from() -> None:
    state = fresh()
    for number in range(1, 4):
        state.loss_average.lerp_(torch.tensor(0.5), 1 - LOSS_DECAY)
        state.images_seen = 4 * number
        state.read_loss()
        assert state.loss == pytest.approx(0.5)
    state.loss_average.fill_(math.inf)
    with pytest.raises(CaptionlessError, match="non-finite"):
        state.read_loss()
