"""Functions and networks are captured after a few calls on CUDA, and elsewhere called as they are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

import tiny
from captionless.device import exact_convolutions
from captionless.models.capture import EAGER, Captured, captured_network


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


@pytest.fixture
def network() -> CountedNetwork:
    return CountedNetwork()


class CountedNetwork(nn.Module):
    """A denoiser of random weights that counts its calls, and remembers the rows of the last."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.calls, self.rows = tiny.denoiser(tokens=2, input_skip=True), 0, 0

    def forward(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        self.rows = len(inputs[0])
        output: Tensor = self.network(*inputs)
        return output


def inputs(n: int, seed: int = 0, perturbed: bool = False) -> tuple[Tensor, ...]:
    identity = [tiny.uniform(n, seed=seed + 1)] * perturbed
    return tiny.random(n, 3, 8, 8, seed=seed), tiny.uniform(n, seed=seed), tiny.unit_vectors(n, seed=seed), *identity


def warm(call: Callable[..., Tensor], n: int, **shape: bool) -> None:
    """Call a network until it is captured, and once more."""
    for seed in range(EAGER + 2):
        call(*inputs(n, seed, **shape))


def assert_same(call: Callable[..., Tensor], network: CountedNetwork, *given: Tensor) -> None:
    torch.testing.assert_close(call(*given), network.network(*given).detach())


def test_a_network_is_replayed_with_the_inputs_and_weights_of_the_call(
    fake_cuda: torch.device, network: CountedNetwork
) -> None:
    said = list[str]()
    call = captured_network(network, fake_cuda, said.append)
    kept, wanted = [], []
    for seed in range(EAGER + 4):
        for perturbed in (False, True):
            if seed == EAGER + 2:
                network.network.head.weight.data.mul_(2)
            given = inputs(4, seed, perturbed)
            kept.append(call(*given))
            wanted.append(network.network(*given).detach())
    for output, value in zip(kept, wanted, strict=True):
        torch.testing.assert_close(output, value)
    assert network.calls == 2 * (EAGER + 1)
    assert said == []


def test_batches_of_any_number_of_rows_share_the_graphs_of_powers_of_two(
    fake_cuda: torch.device, network: CountedNetwork
) -> None:
    call = captured_network(network, fake_cuda, print)
    for seed in range(EAGER + 1):
        for n in (1, 2, 3, 5):
            assert_same(call, network, *inputs(n, seed))
            assert network.rows == {1: 1, 2: 2, 3: 4, 5: 8}[n]
    assert network.calls == 4 * (EAGER + 1)
    for seed, n in enumerate((7, 3, 8, 1, 5, 4, 6, 2)):  # rows join and leave
        assert_same(call, network, *inputs(n, seed + 10))
    assert network.calls == 4 * (EAGER + 1)


def test_no_row_sees_what_an_earlier_call_left(fake_cuda: torch.device, network: CountedNetwork) -> None:
    call = captured_network(network, fake_cuda, print)
    warm(call, 8, perturbed=True)
    call(*(one * torch.nan for one in inputs(8, perturbed=True)))
    assert_same(call, network, *inputs(5, perturbed=True))
    assert_same(call, network, *inputs(5))  # another graph, without perturbed attention


@pytest.mark.parametrize("way", ["assigned", "moved", "layer"])
def test_replaced_weights_are_captured_anew(fake_cuda: torch.device, network: CountedNetwork, way: str) -> None:
    call = captured_network(network, fake_cuda, print)
    warm(call, 2)
    other = tiny.denoiser(tokens=2, input_skip=True, seed=5)
    match way:
        case "assigned":
            network.network.load_state_dict(other.state_dict(), assign=True)
        case "moved":  # as Module.to does to another device
            for weight, value in zip(network.network.parameters(), other.parameters(), strict=True):
                weight.data = value.data
        case "layer":
            network.network.head = other.head
    before = network.calls
    for seed in range(EAGER + 3):
        assert_same(call, network, *inputs(2, seed))
    assert network.calls == before + EAGER + 1


def test_each_number_format_is_captured_by_itself(
    fake_cuda: torch.device, network: CountedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float32 of a graph with TF32, CUDA's default, is another than that without."""
    call = captured_network(network, fake_cuda, print)
    warm(call, 2)
    before = network.calls
    with exact_convolutions("float32", fake_cuda):
        warm(call, 2)
    assert network.calls == before + EAGER + 1
    formats: list[tuple[object, ...]] = []

    def autocast(*now: object, **_: object) -> AbstractContextManager[None]:
        formats.extend([now] if now[0] == "cuda" else [])
        return nullcontext()

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch, "autocast", autocast)
    for dtype in (torch.bfloat16, torch.float16):
        monkeypatch.setattr(torch, "get_autocast_dtype", lambda _, dtype=dtype: dtype)
        warm(call, 2)
    assert formats == [("cuda", dtype, True) for dtype in (torch.bfloat16, torch.float16) for _ in range(EAGER + 1)]


def test_few_graphs_of_a_network_are_kept_and_share_their_memory(
    fake_cuda: torch.device, network: CountedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools, graph = list[object](), torch.cuda.graph

    def noted(one: torch.cuda.CUDAGraph, *, pool: object, **_: object) -> object:
        pools.append(pool)
        return graph(one)

    monkeypatch.setattr(torch.cuda, "graph", noted)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr("captionless.models.capture.GRAPHS", 3)
    call = captured_network(network, fake_cuda, print)

    def calls(n: int) -> int:
        before = network.calls
        warm(call, n)
        return network.calls - before

    assert [calls(n) for n in (1, 2, 4)] == [EAGER + 1] * 3
    assert calls(1) == 0
    assert calls(8) == EAGER + 1  # takes the place of the graph used longest ago
    assert calls(1) == 0
    assert calls(2) == EAGER + 1
    assert len(pools) == 5
    assert len(set(pools) - {None}) == 1


def test_threads_do_not_exchange_their_inputs(fake_cuda: torch.device, network: CountedNetwork) -> None:
    call = captured_network(network, fake_cuda, print)
    warm(call, 4)
    seeds = range(16)
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda seed: call(*inputs(4, seed)), seeds))
    for seed, output in zip(seeds, outputs, strict=True):
        torch.testing.assert_close(output, network.network(*inputs(4, seed)).detach())


def test_elsewhere_the_network_itself_is_called(network: CountedNetwork) -> None:
    assert captured_network(network, torch.device("cpu"), print) is network
