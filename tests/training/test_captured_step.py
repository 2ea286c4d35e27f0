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
from torch.utils._pytree import tree_leaves

import tiny
from captionless.config.training import TrainConfig
from captionless.diffusion import schedules
from captionless.diffusion.schedules import AnySchedule, CosineSchedule, KarrasSchedule, LinearSchedule, SigmoidSchedule
from captionless.models.capture import EAGER
from captionless.models.unet import Denoiser
from captionless.training.dataset import Examples
from captionless.training.state import TrainState, begin_state
from captionless.training.step import TrainStep
from recorder import Recorder

CONFIG = TrainConfig(size=8, width=16, batch=8, images=800, precision="float32", warm_up=64, dropout=0.2)
WAITS = ("_local_scalar_dense", "is_nonzero", "item", "nonzero")
"""Operators that make the host wait for the device."""
GENERATORS = ("rand", "bernoulli", "normal", "native_dropout", "uniform", "multinomial")
"""Operators that draw from a generator with a state."""


def examples(n: int = 20, crop: bool = False) -> Examples:
    pixels = (256 * tiny.uniform(n, 3, 12, 12)).byte() if crop else (256 * tiny.uniform(n, 3, 8, 8)).byte()
    return Examples(pixels, tiny.unit_vectors(n), low_res=pixels[..., :8:2, :8:2])


def fresh(config: TrainConfig, schedule: AnySchedule | None = None, **shape: Any) -> TrainState:
    torch.manual_seed(0)
    shape |= {"dropout": config.dropout, "low_res_channels": 4, "crops": config.crop < 1}
    network = Denoiser(replace(tiny.SHAPE, **shape)).train()
    return begin_state(network.to(memory_format=torch.channels_last), config, schedule or CosineSchedule())  # type: ignore[call-overload]


CHANGES = [
    {},
    {"accumulate": 3},
    {"checkpoint_activations": True, "crop": 0.6},
    {"mask": "element", "weighting": "log-normal", "prediction": "eps"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_replayed_operations_train_exactly_as_steps_do(changes: dict[str, Any]) -> None:
    config = CONFIG.replace(**changes)
    ours, theirs = fresh(config), fresh(config)
    step, other = (TrainStep(state, examples(crop=config.crop < 1)) for state in (ours, theirs))
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
    state = fresh(CONFIG.replace(**changes), schedule, tokens=2, input_skip=True)
    step = TrainStep(state, examples(crop="crop" in changes))
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
