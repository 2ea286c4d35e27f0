"""A training step is a fixed list of operations on tensors that keep their place, as a CUDA graph requires.

A CUDA graph replays the kernels of one call on the same memory, without Python. Here, a recorder of operations stands
in for it on the CPU: what it replays must train exactly as steps that Python takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny
from captionless.config.training import TrainConfig
from captionless.diffusion import schedules
from captionless.diffusion.schedules import AnySchedule, CosineSchedule, KarrasSchedule, LinearSchedule, SigmoidSchedule
from captionless.models.unet import Denoiser
from captionless.training.capture import EAGER, Captured
from captionless.training.dataset import Examples
from captionless.training.state import TrainState, begin_state
from captionless.training.step import TrainStep

CONFIG = TrainConfig(size=8, width=16, batch=8, images=800, precision="float32", warm_up=64, dropout=0.2)
WAITS = ("_local_scalar_dense", "is_nonzero", "item", "nonzero")
"""Operators that make the host wait for the device."""
GENERATORS = ("rand", "bernoulli", "normal", "native_dropout", "uniform", "multinomial")
"""Operators that draw from a generator with a state."""


class Recorder(TorchDispatchMode):
    """Remembers each operation with the tensors it read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @property
    def names(self) -> list[str]:
        return [str(func).split(".")[1] for func, *_ in self.calls]

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat the operations on the same tensors, and put what each returns where it was put before."""
        for func, args, kwargs, out in self.calls:
            if func.is_view:
                continue  # a view of memory that keeps its place
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)


def examples(n: int = 20) -> Examples:
    pixels = (256 * tiny.uniform(n, 3, 8, 8)).byte()
    return Examples(pixels, tiny.unit_vectors(n), low_res=pixels[..., ::2, ::2])


def fresh(config: TrainConfig, schedule: AnySchedule | None = None, **shape: Any) -> TrainState:
    torch.manual_seed(0)
    network = Denoiser(replace(tiny.SHAPE, dropout=config.dropout, low_res_channels=4, **shape)).train()
    return begin_state(network.to(memory_format=torch.channels_last), config, schedule or CosineSchedule())  # type: ignore[call-overload]


CHANGES = [
    {},
    {"accumulate": 3},
    {"checkpoint_activations": True},
    {"mask": "element", "weighting": "log-normal", "prediction": "eps"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_replayed_operations_train_exactly_as_steps_do(changes: dict[str, Any]) -> None:
    config = CONFIG.replace(**changes)
    ours, theirs = fresh(config), fresh(config)
    step, other = TrainStep(ours, examples()), TrainStep(theirs, examples())
    for _ in range(EAGER):
        step()
        other()
    recorder = Recorder()

    def capture() -> None:
        with recorder:
            step._whole()

    step.phases = [capture]  # unlike CUDA, the stand-in computes while it records
    step()
    step.phases = [recorder.replay]
    for _ in range(4):
        step()
    for _ in range(5):
        other()
    for name, value in ours.network.state_dict().items():
        torch.testing.assert_close(value, theirs.network.state_dict()[name], rtol=0, atol=0)
    for name, value in ours.average.state_dict().items():
        torch.testing.assert_close(value, theirs.average.state_dict()[name], rtol=0, atol=0)
    ours.read_loss()
    theirs.read_loss()
    assert ours.loss == theirs.loss


@pytest.mark.parametrize(
    ("schedule", "changes"),
    list(zip([CosineSchedule(), KarrasSchedule(), LinearSchedule(150), SigmoidSchedule()], CHANGES, strict=True)),
)
def test_a_step_neither_waits_for_the_device_nor_draws_from_a_generator_nor_needs_float64(
    schedule: AnySchedule, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPS has no float64; schedules use it elsewhere."""
    monkeypatch.setattr(schedules, "_wide", Tensor.float)
    step = TrainStep(fresh(CONFIG.replace(**changes), schedule, tokens=2, input_skip=True), examples())
    step()
    recorder = Recorder()
    with recorder:
        step._whole()
    assert len(recorder.calls) > 100
    assert not set(recorder.names) & set(WAITS)
    assert not [name for name in recorder.names if name.startswith(GENERATORS)]
    tensors = [one for call in recorder.calls for one in tree_leaves(call) if isinstance(one, Tensor)]
    assert not [one for one in tensors if one.dtype == torch.float64]


def test_the_watched_operators_are_noticed() -> None:
    """The names above are those of PyTorch."""
    with Recorder() as recorder:
        torch.ones(1).item()
        torch.rand(1)
        torch.randn(1)
        torch.nn.functional.dropout(torch.ones(3), 0.5)
    assert set(recorder.names) & set(WAITS)
    assert len([name for name in recorder.names if name.startswith(GENERATORS)]) >= 3


# --- capture ---


class FakeGraph:
    """Stands in for a CUDA graph: captures by recording."""

    def __init__(self) -> None:
        self.recorder = Recorder()

    def replay(self) -> None:
        self.recorder.replay()


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    class Stream:
        def wait_stream(self, other: Any) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph.recorder)
    return torch.device("cuda")


def test_a_function_is_captured_after_a_few_calls_and_then_replayed(fake_cuda: torch.device) -> None:
    total = torch.zeros(())
    calls: list[int] = []
    said: list[str] = []

    def function() -> None:
        calls.append(1)
        total.add_(1)

    captured = Captured(function, fake_cuda, said.append)
    for _ in range(EAGER):
        captured()
    assert (len(calls), float(total)) == (EAGER, EAGER)
    total.zero_()
    for _ in range(5):
        captured()
    assert len(calls) == EAGER + 1  # only the capture called it again
    assert float(total) == 5 + 1  # the stand-in computes while it records, unlike CUDA
    assert said == []


def test_a_function_that_cannot_be_captured_is_called_as_it_is_with_a_remark(fake_cuda: torch.device) -> None:
    calls: list[int] = []
    said: list[str] = []

    def function() -> None:
        calls.append(1)
        if len(calls) == EAGER + 1:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    captured = Captured(function, fake_cuda, said.append)
    for _ in range(EAGER + 3):
        captured()
    assert len(calls) == EAGER + 1 + 3
    assert said == [
        "Steps are not captured as a CUDA graph (operation not permitted when stream is capturing). Each is launched "
        "by Python, which is slower."
    ]


def test_elsewhere_nothing_is_captured() -> None:
    calls: list[int] = []
    captured = Captured(lambda: calls.append(1), torch.device("cpu"), print)
    for _ in range(EAGER + 2):
        captured()
    assert calls == [1] * (EAGER + 2)


# --- the same loss, however the batch is divided ---


def losses(config: TrainConfig, steps: int = 6) -> list[float]:
    state, found = fresh(config), []
    step = TrainStep(state, examples())
    for _ in range(steps):
        step()
        found.append(float(step.loss))
    return found


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"accumulate": 3}, {"checkpoint_activations": True}])
def test_micro_batches_and_checkpointing_train_the_same(changes: dict[str, Any]) -> None:
    assert losses(CONFIG.replace(**changes)) == pytest.approx(losses(CONFIG), abs=1e-5)


def test_checkpointed_blocks_are_computed_twice() -> None:
    counts = {}
    for on in (False, True):
        step = TrainStep(fresh(CONFIG.replace(checkpoint_activations=on)), examples())
        recorder = Recorder()
        with recorder:
            step._whole()
        counts[on] = recorder.names.count("native_group_norm")
    assert counts[False] < counts[True] <= 2 * counts[False]
