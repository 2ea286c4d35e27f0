"""The contract of captionless.checkpoints.quantisation: weights in 8 bits come back to within half a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from captionless.checkpoints.model import WEIGHTS, load_model
from captionless.checkpoints.quantisation import quantised, restored
from captionless.errors import CaptionlessError
from captionless.tensor_files import save_tensors
from tiny import saved


@given(st.integers(0, 1000), st.floats(1e-2, 1e2), st.sampled_from([(3, 5), (4, 2, 3, 3), (1, 1)]))
def test_each_weight_is_within_half_a_step_of_its_row(seed: int, size: float, shape: tuple[int, ...]) -> None:
    weights = size * tiny.random(*shape, seed=seed)
    rows, back = weights.flatten(1), restored(quantised({"w": weights}))["w"].flatten(1)
    assert back.dtype == torch.float32
    step = rows.abs().amax(1, keepdim=True) / 127
    assert bool(((back - rows).abs() <= 0.5001 * step).all())


def test_rows_are_independent() -> None:
    weights = torch.tensor([[1e3, -5e2], [1e-3, 5e-4]])
    torch.testing.assert_close(restored(quantised({"w": weights}))["w"], weights, rtol=0.01, atol=0)


def test_zeros_stay_zeros() -> None:
    stored = quantised({"w": torch.zeros(2, 3)})
    assert not stored["w"].any()
    assert stored["w.scale"].isfinite().all()
    small = torch.full((1, 3), 1e-20)
    torch.testing.assert_close(restored(quantised({"w": small}))["w"], small, atol=0, rtol=0.01)


def test_whole_numbers_without_a_scale_are_refused() -> None:
    stored = quantised({"w": torch.eye(2)})
    del stored["w.scale"]
    with pytest.raises(CaptionlessError, match="weights w have no scale"):
        restored(stored)


def test_biases_keep_16_bits_and_other_weights_their_values() -> None:
    bias = torch.tensor([0.5, -0.25])
    stored = quantised({"b": bias, "w": torch.eye(2)})
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "b": torch.float16,
        "w": torch.int8,
        "w.scale": torch.float32,
    }
    assert torch.equal(restored(stored)["b"], bias)
    assert torch.equal(restored({"w": torch.eye(2).half()})["w"], torch.eye(2))


def test_a_quarter_of_the_bytes() -> None:
    weights = {"w": tiny.random(64, 64, 3, 3)}
    assert sum(tensor.nbytes for tensor in quantised(weights).values()) < 0.26 * weights["w"].nbytes


def test_a_model_folder_may_hold_weights_in_8_bits(tmp_path: Path) -> None:
    folder = saved(tiny.model(), tmp_path / "model")
    before = load_model(folder).denoiser.state_dict()
    save_tensors(folder / WEIGHTS, quantised(before))
    after = load_model(folder).denoiser.state_dict()
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=0.006 * float(weight.abs().max()) + 1e-6, rtol=0)
    stored = quantised(before)
    del stored["stem.weight"]
    save_tensors(folder / WEIGHTS, stored)
    with pytest.raises(CaptionlessError, match="do not match"):
        load_model(folder)
