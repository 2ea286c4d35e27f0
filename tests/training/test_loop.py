"""The contract of captionless.training.loop: learning, stopping, resuming bit by bit, and when it goes wrong."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from captionless.config.training import TrainConfig
from captionless.data.arrays import normalise
from captionless.diffusion.objective import denoising_loss
from captionless.diffusion.schedules import AnySchedule, CosineSchedule, FlowSchedule, KarrasSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models import ema
from captionless.models.blocks import Parts
from captionless.models.unet import Denoiser
from captionless.training import loop as loop_module
from captionless.training.dataset import Examples
from captionless.training.loop import LOSS_EVERY, Callback, StopTraining, loop
from captionless.training.state import TrainState, begin_state, restore_state, save_state

SCHEDULE = CosineSchedule()
CONFIG = TrainConfig(size=8, width=16, batch=4, images=24, precision="float32")
FAST = CONFIG.replace(warm_up=1)


class Stopped(Exception):  # noqa: N818
    """Ends a training from within."""


class After(Callback):
    """Calls a function after each step, and remembers what else happened."""

    def __init__(self, act: Callable[[TrainState], object]) -> None:
        self.act = act
        self.events: list[str] = []

    def on_start(self, state: TrainState) -> None:
        self.events.append("start")

    def on_step(self, state: TrainState) -> None:
        assert state.images_seen < 10_000, "this training does not end"
        self.act(state)

    def on_end(self, state: TrainState) -> None:
        self.events.append("end")


def data(n: int = 5) -> Examples:
    return Examples((256 * tiny.uniform(n, 3, 8, 8)).byte(), tiny.unit_vectors(n))


def fresh(config: TrainConfig = CONFIG, seed: int = 0, schedule: AnySchedule = SCHEDULE) -> TrainState:
    torch.manual_seed(seed)
    network = Denoiser(replace(tiny.SHAPE, dropout=config.dropout, crops=config.crop < 1)).train()
    return begin_state(network.to(memory_format=torch.channels_last), config, schedule)  # type: ignore[call-overload]


def train(
    state: TrainState, examples: Examples | None = None, on_step: Callable[[TrainState], object] = lambda _: None
) -> TrainState:
    loop(state, examples or data(), [After(on_step)])
    return state


def stop_after(steps: int, kind: type[BaseException] = Stopped) -> Callable[[TrainState], None]:
    left = iter(range(steps - 1, -1, -1))

    def on_step(_: TrainState) -> None:
        if next(left) == 0:
            raise kind

    return on_step


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return {name: value.clone() for name, value in tensors.items()}


# --- stopping and resuming ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.3},
        {"crop": 0.6, "crop_probability": 0.9},
        {"condition_cosine": 0.8, "flip": False},
        {"prediction": "eps", "weighting": "log-normal", "mask": "element"},
    ],
)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_training_continues_bit_by_bit_as_if_it_had_never_stopped(
    stop: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    config = CONFIG.replace(**changes)
    whole = train(fresh(config))
    part = fresh(config)
    with pytest.raises(Stopped):
        train(part, on_step=stop_after(stop))
    save_state(tmp_path, part)
    torch.manual_seed(99)  # another process, at another point of the global generator
    resumed = fresh(config, seed=1)
    restore_state(tmp_path, resumed)
    assert resumed.images_seen == 4 * stop
    train(resumed)
    ours, theirs = everything(resumed), everything(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert (resumed.images_seen, resumed.loss) == (whole.images_seen, whole.loss)


def test_a_finished_training_takes_no_further_step_until_it_is_lengthened() -> None:
    state = train(fresh())
    before = everything(state)
    train(state)
    assert all(torch.equal(value, before[name]) for name, value in everything(state).items())
    state.config = CONFIG.replace(images=38)
    assert train(state).images_seen == 40


def test_callbacks_end_with_the_training_also_when_one_stops_it_but_not_after_an_error() -> None:
    def events(on_step: Callable[[TrainState], object], error: type[BaseException] | None) -> list[str]:
        watch, rest = After(lambda _: None), After(on_step)
        with nullcontext() if error is None else pytest.raises(error):
            loop(fresh(), data(), [watch, rest])
        return watch.events

    assert events(lambda _: None, None) == ["start", "end"]
    assert events(stop_after(2, StopTraining), StopTraining) == ["start", "end"]
    assert events(stop_after(2), Stopped) == ["start"]


# --- learning ---


def fixed_loss(network: torch.nn.Module, examples: Examples, state: TrainState) -> float:
    """The loss on the same noise at the same times."""
    many = torch.arange(64) % len(examples.pixels)
    x0, t = normalise(examples.pixels[many]), (torch.arange(64) + 0.5) / 64
    eps, core = tiny.random(*x0.shape, seed=9), (state.config.prediction, state.config.weighting)
    with torch.no_grad():
        return float(denoising_loss(network, state.schedule, x0, examples.conditions[many], t, eps, *core))


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
def test_every_prediction_is_learned_and_the_average_follows(core: Any, schedule: AnySchedule) -> None:
    config = FAST.replace(batch=16, images=16 * 40, learning_rate=5e-3, flip=False, **core)
    grey = torch.tensor([30, 220], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
    examples, state = Examples(grey.contiguous(), tiny.unit_vectors(2)), fresh(config, schedule=schedule)
    before = fixed_loss(state.network, examples, state)
    train(state, examples)
    assert fixed_loss(state.network, examples, state) < 0.7 * before
    assert fixed_loss(state.average, examples, state) < before
    assert math.isfinite(state.loss)


def test_a_network_of_other_parts_is_trained_and_averaged_like_any() -> None:
    parts = Parts(norm=torch.nn.BatchNorm2d, embed_time=lambda t: t[:, None])
    state = begin_state(Denoiser(tiny.SHAPE, parts).train(), FAST, SCHEDULE)
    train(state)
    statistics = {name: value for name, value in state.network.state_dict().items() if "running_var" in name}
    assert statistics
    for name, value in statistics.items():
        assert torch.equal(state.average.state_dict()[name], value)
        assert not torch.equal(value, torch.ones_like(value))


def test_the_average_is_the_running_average_of_the_weights_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ema, "WARM_UP", 10.0)  # so that a step keeps a good part of the average
    state = fresh(FAST.replace(ema_half_life=8, learning_rate=0.05))
    expected = {name: weight.clone() for name, weight in state.network.state_dict().items()}
    steps = 0

    def on_step(state: TrainState) -> None:
        nonlocal steps
        steps += 1
        keep = ema.decay(4, 4 * steps, 8)
        for name, weight in state.network.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * weight

    train(state, on_step=on_step)
    assert steps == 6
    for name, weight in state.average.state_dict().items():
        torch.testing.assert_close(weight, expected[name])


def test_gradients_are_clipped_and_the_learning_rate_is_the_states() -> None:
    state, seen = fresh(), []
    with torch.no_grad():
        state.network.head.weight.fill_(50.0)  # a network far off has large gradients

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [weight.grad for weight in state.network.parameters() if weight.grad is not None]
        norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
        seen.append((norm, float(optimizer.param_groups[0]["lr"]), state.learning_rate))

    state.optimizer.register_step_pre_hook(before_step)
    train(state)
    assert len(seen) == 6
    for norm, rate, expected in seen:
        assert norm == pytest.approx(1, abs=1e-3)
        assert rate == pytest.approx(expected)
        assert rate > 0


# --- time ---


def ticking(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """A clock that moves on each time it is read; returns the time that others may move too."""
    now = [0.0]

    def perf_counter() -> float:
        now[0] += seconds
        return now[0]

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(perf_counter=perf_counter))
    return now


def test_minutes_count_the_time_of_steps_over_all_resumes_and_not_what_is_done_between_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = ticking(monkeypatch, seconds=1.5)

    def on_step(_: TrainState) -> None:
        now[0] += 1000

    state = train(fresh(CONFIG.replace(images=None, minutes=0.1)), on_step=on_step)
    assert (state.seconds, state.images_seen) == (pytest.approx(6.0), 4 * 4)
    save_state(tmp_path, state)
    resumed = fresh(CONFIG.replace(images=None, minutes=0.2))
    restore_state(tmp_path, resumed)
    assert train(resumed).images_seen == 8 * 4


# --- when it goes wrong ---


@pytest.mark.parametrize("images", [4 * 1000, 24], ids=["long", "shorter than one check"])
def test_a_loss_that_is_not_a_number_stops_the_training_with_advice(images: int) -> None:
    state = fresh(CONFIG.replace(images=images, condition_drop=0.0))
    with pytest.raises(CaptionlessError, match="non-finite") as error:
        train(state, replace(data(), conditions=data().conditions * math.nan))
    assert "\n" not in str(error.value)
    assert "`learning_rate`" in str(error.value)
    assert state.images_seen <= 4 * LOSS_EVERY


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_too_little_memory_is_one_line_with_the_remedies_that_are_left(error: Exception, checkpointing: bool) -> None:
    def fail(_: TrainState) -> None:
        raise error

    state = fresh(CONFIG.replace(accumulate=2, checkpoint_activations=checkpointing))
    with pytest.raises(CaptionlessError, match=r"not enough memory.*`accumulate=4`.*`batch`") as raised:
        train(state, on_step=fail)
    assert ("`checkpoint_activations=True`" in str(raised.value)) != checkpointing
    assert "\n" not in str(raised.value)
    assert "`resume=True`" in str(raised.value)


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    def fail(_: TrainState) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(fresh(), on_step=fail)
