"""Functions and networks are captured after a few calls on CUDA, and elsewhere called as they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tiny
from captionless.models.capture import EAGER, GRAPHS, Captured, captured_network


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


# --- networks ---


class CountedNetwork:
    """A denoiser of random weights that counts its calls."""

    def __init__(self) -> None:
        self.network, self.calls = tiny.denoiser(tokens=2, input_skip=True), 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        output: Tensor = self.network(*inputs)
        return output


@pytest.fixture
def on_cpu(fake_cuda: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device that passes for CUDA, with memory of the CPU."""
    empty = torch.empty_strided
    monkeypatch.setattr(torch, "empty_strided", lambda *layout, device: empty(*layout))
    return fake_cuda


def inputs(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    return tiny.random(n, 3, 8, 8, seed=seed), tiny.uniform(n, seed=seed), tiny.unit_vectors(n, seed=seed)


def test_a_network_is_replayed_for_each_shape_with_the_inputs_and_weights_of_the_call(on_cpu: torch.device) -> None:
    network, said = CountedNetwork(), list[str]()
    call = captured_network(network, on_cpu, said.append)
    kept, wanted = [], []
    for seed in range(EAGER + 4):
        for n in (2, 4):
            if seed == EAGER + 2:
                network.network.head.weight.data.mul_(2)
            kept.append(call(*inputs(n, seed)))
            wanted.append(network.network(*inputs(n, seed)).detach())
    for output, value in zip(kept, wanted, strict=True):
        torch.testing.assert_close(output, value)
    assert network.calls == 2 * (EAGER + 1)
    assert said == []


def test_few_graphs_of_a_network_are_kept(on_cpu: torch.device) -> None:
    network = CountedNetwork()
    call = captured_network(network, on_cpu, print)

    def calls(n: int) -> int:
        before = network.calls
        for seed in range(EAGER + 3):
            call(*inputs(n, seed))
        return network.calls - before

    assert [calls(n) for n in range(1, GRAPHS + 1)] == [EAGER + 1] * GRAPHS
    assert calls(1) == 0
    assert calls(GRAPHS + 1) == EAGER + 1  # takes the place of the graph used longest ago
    assert calls(1) == 0
    assert calls(2) == EAGER + 1


def test_elsewhere_the_network_itself_is_called() -> None:
    network = CountedNetwork()
    assert captured_network(network, torch.device("cpu"), print) is network
