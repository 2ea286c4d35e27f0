"""The contract of captionless.training.loop: the training loop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

import tiny
from captionless.checkpoints.model import STATE
from captionless.checkpoints.tensors import save_tensors
from captionless.config.training import DEFAULT_MINUTES, PREDICTIONS, WEIGHTINGS, TrainConfig
from captionless.data.arrays import normalise
from captionless.diffusion.objective import denoising_loss
from captionless.diffusion.schedules import AnySchedule, CosineSchedule, FlowSchedule, KarrasSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models import ema
from captionless.models.blocks import Parts
from captionless.models.unet import Denoiser
from captionless.training import loop as trainer
from captionless.training.loop import (
    CHECK_EVERY,
    Counter,
    Training,
    TrainingData,
    batch_indices,
    begin,
    learning_rate,
    progress,
    restore_state,
    run,
    save_state,
    step_generator,
    step_loss,
)

SCHEDULE = CosineSchedule()
SETTINGS = TrainConfig(size=8, width=16, batch=4, images=24, precision="float32")


@pytest.fixture(autouse=True)
def accelerate_of_its_own() -> Iterator[None]:
    """Accelerate remembers the device of its first use in a process; do not inherit or leave one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Stopped(Exception):  # noqa: N818
    """Ends a training from within."""


def data(n: int = 5) -> TrainingData:
    return TrainingData((256 * tiny.uniform(n, 3, 8, 8)).byte(), tiny.unit_vectors(n))


def fresh(settings: TrainConfig = SETTINGS, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    network = Denoiser(replace(tiny.SHAPE, dropout=settings.dropout)).train()
    return begin(network.to(memory_format=torch.channels_last), settings)  # type: ignore[call-overload]


def train(
    training: Training,
    settings: TrainConfig = SETTINGS,
    pictures: TrainingData | None = None,
    on_step: Callable[[Training], None] = lambda _: None,
    schedule: AnySchedule = SCHEDULE,
) -> Training:
    def bounded(training: Training) -> None:
        assert training.counter.images < 10_000, "this training does not end"
        on_step(training)

    run(training, pictures or data(), schedule, settings, Accelerator(cpu=True), bounded)
    return training


def stop_after(steps: int) -> Callable[[Training], None]:
    left = iter(range(steps - 1, -1, -1))

    def on_step(_: Training) -> None:
        if next(left) == 0:
            raise Stopped

    return on_step


def everything(training: Training) -> dict[str, Tensor]:
    tensors = {f"network.{name}": value for name, value in training.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in training.average.state_dict().items()}
    for index, state in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return {name: value.clone() for name, value in tensors.items()}


def assert_same(first: Training, second: Training) -> None:
    ours, theirs = everything(first), everything(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert first.counter.images == second.counter.images


# --- stopping and going on ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.3},
        {"condition_cosine": 0.8, "flip": False},
        {"prediction": "eps", "weighting": "log-normal", "mask": "element"},
    ],
)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_training_goes_on_bit_by_bit_as_if_it_had_never_stopped(
    stop: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    settings = SETTINGS.replace(**changes)
    whole = train(fresh(settings), settings)
    part = fresh(settings)
    with pytest.raises(Stopped):
        train(part, settings, on_step=stop_after(stop))
    save_state(tmp_path, part)
    torch.manual_seed(99)  # another process, at another point of the global generator
    resumed = fresh(settings, seed=1)
    restore_state(tmp_path, resumed)
    assert resumed.counter.images == 4 * stop
    train(resumed, settings)
    assert_same(resumed, whole)


def test_restoring_brings_back_all_that_was_saved(tmp_path: Path) -> None:
    training = train(fresh())
    training.counter.seconds, training.counter.loss = 12.345678901234, 0.25
    save_state(tmp_path, training)
    restored = fresh(seed=1)
    restore_state(tmp_path, restored)
    assert_same(restored, training)
    assert restored.counter == training.counter


def test_what_is_restored_lies_in_memory_as_its_weights_do(tmp_path: Path) -> None:
    """Files know one layout, convolutions like another; a mixture is slow and may round differently."""
    save_state(tmp_path, train(fresh()))
    restored = fresh(seed=1)
    restore_state(tmp_path, restored)
    for weights, state in restored.optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert state[name].stride() == weights.stride()


def test_a_training_that_has_not_taken_a_step_can_be_saved_too(tmp_path: Path) -> None:
    save_state(tmp_path, fresh())
    restored = fresh(seed=1)
    restore_state(tmp_path, restored)
    assert_same(restored, fresh())
    assert math.isnan(restored.counter.loss)


def test_a_finished_training_takes_no_further_step_until_it_is_lengthened() -> None:
    training = train(fresh())
    before = everything(training)
    train(training)
    assert all(torch.equal(value, before[name]) for name, value in everything(training).items())
    train(training, SETTINGS.replace(images=40))
    assert training.counter.images == 40


# --- learning ---


def fixed_loss(
    network: torch.nn.Module,
    pictures: TrainingData,
    settings: TrainConfig = SETTINGS,
    schedule: AnySchedule = SCHEDULE,
) -> float:
    """The loss on the same noise at the same times."""
    many = torch.arange(64) % len(pictures.pixels)
    x0, t = normalise(pictures.pixels[many]), (torch.arange(64) + 0.5) / 64
    eps, core = tiny.random(*x0.shape, seed=9), (settings.prediction, settings.weighting)
    with torch.no_grad():
        return float(denoising_loss(network, schedule, x0, pictures.vectors[many], t, eps, *core))


def test_the_loss_falls_on_two_images_and_the_average_follows() -> None:
    settings = SETTINGS.replace(
        batch=16, images=16 * 100, learning_rate=5e-3, warm_up=1, flip=False, condition_drop=0.0
    )
    grey = torch.tensor([30, 220], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
    pictures, training = TrainingData(grey.contiguous(), tiny.unit_vectors(2)), fresh(settings)
    before = fixed_loss(training.network, pictures)
    train(training, settings, pictures)
    assert fixed_loss(training.network, pictures) < 0.5 * before
    assert fixed_loss(training.average, pictures) < 0.5 * before
    assert training.counter.loss < before


@pytest.mark.parametrize(
    ("core", "schedule"),
    [
        ({"prediction": "eps", "mask": "element"}, LinearSchedule(150)),
        ({"prediction": "v", "weighting": "log-normal"}, LinearSchedule(150, zero_terminal_snr=True)),
        ({"prediction": "x0", "weighting": "min-snr"}, KarrasSchedule()),
        ({"prediction": "flow"}, FlowSchedule()),
    ],
    ids=["eps", "v", "x0", "flow"],
)
def test_every_prediction_is_learned(core: Any, schedule: AnySchedule) -> None:
    settings = SETTINGS.replace(batch=16, images=16 * 40, learning_rate=5e-3, warm_up=1, flip=False, **core)
    grey = torch.tensor([30, 220], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
    pictures, training = TrainingData(grey.contiguous(), tiny.unit_vectors(2)), fresh(settings)
    before = fixed_loss(training.network, pictures, settings, schedule)
    train(training, settings, pictures, schedule=schedule)
    assert fixed_loss(training.network, pictures, settings, schedule) < 0.7 * before


def test_a_network_of_other_parts_is_trained_and_averaged_like_any() -> None:
    parts = Parts(norm=torch.nn.BatchNorm2d, embed_time=lambda t: t[:, None])
    training = begin(Denoiser(tiny.SHAPE, parts).train(), SETTINGS)
    train(training, SETTINGS.replace(warm_up=1))
    statistics = {name: value for name, value in training.network.state_dict().items() if "running_var" in name}
    assert statistics
    for name, value in statistics.items():
        assert torch.equal(training.average.state_dict()[name], value)
        assert not torch.equal(value, torch.ones_like(value))


def test_the_average_is_the_running_average_of_the_weights_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ema, "WARM_UP", 10.0)  # so that a step keeps a good part of the average
    settings, training = SETTINGS.replace(ema_half_life=8, learning_rate=0.05, warm_up=1), fresh()
    expected = {name: weight.clone() for name, weight in training.network.state_dict().items()}
    steps = 0

    def on_step(training: Training) -> None:
        nonlocal steps
        steps += 1
        keep = ema.decay(4, 4 * steps, 8)
        for name, weight in training.network.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * weight

    train(training, settings, on_step=on_step)
    assert steps == 6
    for name, weight in training.average.state_dict().items():
        torch.testing.assert_close(weight, expected[name])


def test_every_step_draws_its_own_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    original, drawn = trainer.step_loss, []

    def step_loss(*given: Any) -> Tensor:
        (generator,) = [one for one in given if isinstance(one, torch.Generator)]
        drawn.append(generator.initial_seed())
        return original(*given)

    monkeypatch.setattr(trainer, "step_loss", step_loss)
    train(fresh())
    assert drawn == [step_generator(SETTINGS.seed, 0, images).initial_seed() for images in range(0, 24, 4)]
    assert len(set(drawn)) == 6


def test_gradients_are_clipped_and_the_learning_rate_is_the_schedules() -> None:
    training, seen = fresh(), []
    with torch.no_grad():
        training.network.head.weight.fill_(50.0)  # a network far off has large gradients

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [weight.grad for weight in training.network.parameters() if weight.grad is not None]
        norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
        seen.append((norm, optimizer.param_groups[0]["lr"], learning_rate(training.counter, SETTINGS)))

    training.optimizer.register_step_pre_hook(before_step)
    train(training)
    assert len(seen) == 6
    for norm, rate, expected in seen:
        assert norm == pytest.approx(1, abs=1e-3)
        assert rate == expected > 0


# --- one batch ---


def drawn(settings: TrainConfig, n: int, seed: int = 0, **tensors: Tensor) -> dict[str, Any]:
    """What reaches the loss of one batch."""
    seen: dict[str, Any] = {}

    def loss(
        network: Any, schedule: Any, x0: Tensor, condition: Tensor, t: Tensor, eps: Tensor, kind: str, weighting: str
    ) -> Tensor:
        seen.update(x0=x0, condition=condition, t=t, eps=eps, prediction=kind, weighting=weighting)
        return torch.zeros(())

    x0 = tensors.get("x0", tiny.uniform(n, 3, 4, 4, seed=3))
    condition = tensors.get("condition", tiny.unit_vectors(n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "denoising_loss", loss)
        step_loss(torch.nn.Identity(), SCHEDULE, x0, condition, settings, step_generator(0, 0, seed))
    return seen


def test_about_half_of_the_images_are_mirrored_left_to_right() -> None:
    x0 = tiny.uniform(2000, 3, 4, 4, seed=3)
    seen = drawn(SETTINGS, 2000, x0=x0)["x0"]
    mirrored = (seen == x0.flip(3)).flatten(1).all(1)
    assert ((seen == x0).flatten(1).all(1) ^ mirrored).all()
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)


def test_no_image_is_mirrored_where_left_and_right_differ() -> None:
    x0 = tiny.uniform(50, 3, 4, 4, seed=3)
    assert torch.equal(drawn(SETTINGS.replace(flip=False), 50, x0=x0)["x0"], x0)


def test_the_wanted_share_of_conditions_is_null_and_the_others_are_untouched() -> None:
    condition = tiny.unit_vectors(4000)
    seen = drawn(SETTINGS.replace(condition_drop=0.2, condition_cosine=1.0), 4000, condition=condition)["condition"]
    null = (seen == 0).all(1)
    assert null.float().mean() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(seen[~null], condition[~null])


def test_conditions_are_blurred_to_the_wanted_cosine_and_null_ones_stay_null() -> None:
    condition = tiny.unit_vectors(2000, 512)
    seen = drawn(SETTINGS.replace(condition_cosine=0.7), 2000, condition=condition)["condition"]
    null = (seen == 0).all(1)
    assert null.float().mean() == pytest.approx(0.1, abs=0.03)
    assert (seen * condition).sum(1)[~null].mean() == pytest.approx(0.7, abs=0.01)


def test_an_element_wise_mask_drops_the_wanted_share_of_elements_and_no_vector() -> None:
    condition = tiny.unit_vectors(400, 512)
    settings = SETTINGS.replace(mask="element", condition_drop=0.2, condition_cosine=1.0)
    seen = drawn(settings, 400, condition=condition)["condition"]
    dropped = seen == 0
    assert dropped.float().mean() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(seen[~dropped], condition[~dropped])
    assert not dropped.all(1).any()


def test_a_class_is_dropped_as_a_whole_by_the_element_wise_mask() -> None:
    condition = torch.nn.functional.one_hot(torch.arange(4000) % 10, 10).float()
    settings = SETTINGS.replace(mask="element", condition_drop=0.2, condition_cosine=1.0)
    seen = drawn(settings, 4000, condition=condition)["condition"]
    null = (seen == 0).all(1)
    assert null.float().mean() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(seen[~null], condition[~null])


def test_elements_are_masked_after_the_vector_was_blurred() -> None:
    """What is dropped is 0, not noise."""
    settings = SETTINGS.replace(mask="element", condition_drop=0.2, condition_cosine=0.7)
    seen = drawn(settings, 400, condition=tiny.unit_vectors(400, 512))["condition"]
    assert (seen == 0).float().mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_is_of_the_prediction_and_the_weighting_that_the_settings_name(
    prediction: str, weighting: str
) -> None:
    seen = drawn(SETTINGS.replace(prediction=prediction, weighting=weighting), 4)
    assert (seen["prediction"], seen["weighting"]) == (prediction, weighting)


def test_log_normal_levels_are_drawn_where_the_settings_ask_for_them() -> None:
    alpha, sigma = SCHEDULE.alpha_sigma(drawn(SETTINGS.replace(weighting="log-normal"), 500)["t"])
    level = (sigma / alpha).log()
    assert (level.mean(), level.std()) == (pytest.approx(-1.2, abs=0.02), pytest.approx(1.2, abs=0.02))


def test_times_cover_all_noise_levels_and_noise_is_standard_normal() -> None:
    seen = drawn(SETTINGS, 500)
    assert sorted((seen["t"] * 500).int().tolist()) == list(range(500))
    assert seen["eps"].mean() == pytest.approx(0, abs=0.03)
    assert seen["eps"].std() == pytest.approx(1, abs=0.03)


def test_what_is_drawn_for_a_image_is_independent_of_each_other() -> None:
    """Neither flips nor dropped conditions go with certain times."""
    x0 = tiny.uniform(4000, 1, 2, 2, seed=3)
    seen = drawn(SETTINGS.replace(condition_drop=0.5), 4000, x0=x0)
    features = torch.stack(
        [
            seen["t"],
            (seen["x0"] == x0).flatten(1).all(1).float(),
            (seen["condition"] == 0).all(1).float(),
            seen["eps"][:, 0, 0, 0],
        ]
    )
    assert (features.corrcoef() - torch.eye(4)).abs().max() < 0.06


def test_a_batch_is_decided_by_its_generator_alone() -> None:
    first, again, other = drawn(SETTINGS, 20, seed=4), drawn(SETTINGS, 20, seed=4), drawn(SETTINGS, 20, seed=8)
    for name in ("t", "eps"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_pixels_are_mapped_onto_minus_1_to_1() -> None:
    assert normalise(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([-1, -0.6, 1])


# --- the order of the pictures ---


def stream(n: int, batches: int, settings: TrainConfig = SETTINGS, processes: int = 1) -> list[int]:
    """The pictures that all processes together see."""
    order: list[int] = []
    for step in range(batches):
        images = step * settings.batch * processes
        for process in range(processes):
            order += batch_indices(n, images, settings, process).tolist()
    return order


@pytest.mark.parametrize("n", [1, 3, 4, 7, 10, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_image_is_seen_once_before_any_is_seen_again(n: int, processes: int) -> None:
    order = stream(n, 60, processes=processes)
    assert len(order) == 60 * 4 * processes
    for epoch in range(len(order) // n):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_processes_share_an_epoch_between_them() -> None:
    first, second = (batch_indices(100, 16, SETTINGS, process).tolist() for process in (0, 1))
    assert len({*first, *second}) == 8


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides() -> None:
    order = stream(20, 20)
    epochs = {tuple(order[i : i + 20]) for i in range(0, 80, 20)}
    assert len(epochs) == 4
    assert stream(20, 20) == order
    assert stream(20, 20, SETTINGS.replace(seed=1)) != order


def test_the_randomness_of_a_step_follows_from_seed_process_and_images_seen() -> None:
    def numbers(*key: int) -> list[float]:
        return torch.rand(4, generator=step_generator(*key)).tolist()

    assert numbers(1, 2, 3) == numbers(1, 2, 3)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, -1, 0), (0, 0, 64), (2**40, 3, 10**9)]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)


# --- how far a training is ---


@pytest.mark.parametrize(
    ("images", "minutes", "expected"),
    [(1000, None, 0.25), (None, 10.0, 0.5), (1000, 10.0, 0.5), (300, 10.0, 250 / 300), (100, None, 1.0)],
)
def test_progress_is_by_images_or_minutes_whichever_is_further(
    images: int | None, minutes: float | None, expected: float
) -> None:
    settings = SETTINGS.replace(images=images, minutes=minutes)
    assert progress(Counter(images=250, seconds=300.0), settings) == pytest.approx(expected)


def test_a_training_of_no_stated_length_lasts_the_default_minutes() -> None:
    settings = SETTINGS.replace(images=None)
    assert progress(Counter(seconds=30 * DEFAULT_MINUTES), settings) == pytest.approx(0.5)


def test_a_training_ends_with_the_step_that_reaches_its_number_of_images() -> None:
    assert train(fresh(), SETTINGS.replace(images=18)).counter.images == 20


def ticking(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """A clock that moves on each time it is read; returns the time that others may move too."""
    now = [0.0]

    def perf_counter() -> float:
        now[0] += seconds
        return now[0]

    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=perf_counter))
    return now


def test_minutes_count_the_time_of_steps_and_not_of_what_is_done_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = ticking(monkeypatch, seconds=1.5)

    def on_step(_: Training) -> None:
        now[0] += 1000

    training = train(fresh(), SETTINGS.replace(images=None, minutes=0.1), on_step=on_step)
    assert training.counter.seconds == pytest.approx(6.0)
    assert training.counter.images == 4 * 4


def test_minutes_are_a_total_over_all_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticking(monkeypatch, seconds=1.5)
    save_state(tmp_path, train(fresh(), SETTINGS.replace(images=None, minutes=0.1)))
    resumed = fresh()
    restore_state(tmp_path, resumed)
    train(resumed, SETTINGS.replace(images=None, minutes=0.2))
    assert resumed.counter.images == 8 * 4


# --- the learning rate ---

LONG = SETTINGS.replace(images=100_000, learning_rate=1.0, batch=64)


def rates(settings: TrainConfig, *images: int) -> list[float]:
    return [learning_rate(Counter(images=seen), settings) for seen in images]


def test_the_learning_rate_rises_linearly_from_the_first_step() -> None:
    assert rates(LONG, 0, 64, LONG.warm_up // 2 - 64) == pytest.approx([0.01, 0.02, 0.5])


def test_the_learning_rate_then_stays_and_at_last_falls_linearly_to_zero() -> None:
    fall = round(100_000 * (1 - LONG.cool_down))
    assert rates(LONG, LONG.warm_up, 30_000, fall) == pytest.approx([1, 1, 1])
    assert rates(LONG, fall + 20_000, 100_000) == pytest.approx([0.5, 0])


def test_minutes_drive_the_learning_rate_too() -> None:
    settings = LONG.replace(images=None, minutes=10.0)
    seen = [learning_rate(Counter(images=50_000, seconds=seconds), settings) for seconds in (60, 300, 480, 600)]
    assert seen == pytest.approx([1, 1, 0.5, 0])


def test_lengthening_a_finished_training_raises_the_learning_rate_again() -> None:
    assert rates(LONG, 100_000) == [0]
    assert rates(LONG.replace(images=400_000), 100_000) == [1]


# --- when it goes wrong ---


def spoilt(pictures: TrainingData) -> TrainingData:
    return replace(pictures, vectors=pictures.vectors * math.nan)


def test_a_loss_that_is_no_number_stops_the_training_with_advice() -> None:
    settings = SETTINGS.replace(images=4 * 1000, condition_drop=0.0)
    training = fresh(settings)
    with pytest.raises(CaptionlessError, match="no longer a number") as error:
        train(training, settings, spoilt(data()))
    assert "\n" not in str(error.value)
    assert "--learning-rate" in str(error.value)
    assert training.counter.images <= 4 * CHECK_EVERY


def test_a_loss_that_is_no_number_is_noticed_in_a_training_of_a_few_steps_too() -> None:
    with pytest.raises(CaptionlessError, match="no longer a number"):
        train(fresh(), SETTINGS, spoilt(data()))


def test_a_good_checkpoint_is_never_replaced_by_weights_that_are_no_numbers(tmp_path: Path) -> None:
    settings = SETTINGS.replace(images=400, condition_drop=0.0)
    training = fresh(settings)
    with pytest.raises(Stopped):
        train(training, settings, on_step=stop_after(2))
    save_state(tmp_path, training)
    good = (tmp_path / STATE).read_bytes()
    with pytest.raises(Stopped):  # before the loss is looked at
        train(training, settings, spoilt(data()), on_step=stop_after(2))
    with pytest.raises(CaptionlessError, match="no longer a number"):
        save_state(tmp_path, training)
    assert (tmp_path / STATE).read_bytes() == good
    assert list((tmp_path / STATE).parent.iterdir()) == [tmp_path / STATE]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(tmp_path, train(fresh()))
    return tmp_path


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match="is missing"):
        restore_state(tmp_path, fresh())


def test_a_truncated_state_is_named(saved: Path) -> None:
    (saved / STATE).write_bytes((saved / STATE).read_bytes()[:-5])
    with pytest.raises(CaptionlessError, match="is damaged"):
        restore_state(saved, fresh())


def test_the_state_of_another_network_does_not_fit(saved: Path) -> None:
    wider = begin(Denoiser(replace(tiny.SHAPE, width=32)), SETTINGS)
    with pytest.raises(CaptionlessError, match=f"does not fit this model. .*--from {saved}"):
        restore_state(saved, wider)


@pytest.mark.parametrize("metadata", [None, {"counter": "{"}, {"counter": '{"steps": 3}'}, {"counter": "7"}])
def test_a_state_without_a_proper_counter_does_not_fit(metadata: dict[str, str] | None, saved: Path) -> None:
    tensors = {
        name: value for name, value in trainer.read_tensors(saved / STATE).items() if not name.startswith("optimizer")
    }
    save_tensors(saved / STATE, tensors, metadata)
    with pytest.raises(CaptionlessError, match="does not fit"):
        restore_state(saved, fresh())
