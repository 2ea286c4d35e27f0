"""Speed as far as it can be counted: network calls, operators and copies; seconds depend on the machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from captionless.generation.generator import Generator
from captionless.models.unet import Denoiser, DenoiserConfig

COPIES = ("aten._to_copy.default", "aten.copy_.default")


class Operators(TorchDispatchMode):
    """Count the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(operator)] += 1
        return operator(*args, **(kwargs or {}))


def inputs(config: DenoiserConfig, n: int) -> tuple[torch.Tensor, ...]:
    xt = torch.randn(n, config.channels, 32, 32).contiguous(memory_format=torch.channels_last)
    return xt, torch.rand(n), torch.randn(n, config.condition_width)


def forward_calls(n: int) -> Counter[str]:
    """The operators of one call of the default network."""
    config = DenoiserConfig(patch=2, condition_width=32)
    network = Denoiser(config).to(memory_format=torch.channels_last)
    with torch.no_grad(), Operators() as operators:
        network(*inputs(config, n))
    return operators.calls


def test_the_operators_of_a_call_do_not_grow_with_the_batch() -> None:
    assert forward_calls(1) == forward_calls(5)


def test_a_call_in_float32_converts_and_copies_nothing() -> None:
    assert not {name: calls for name, calls in forward_calls(2).items() if name in COPIES}


@pytest.mark.parametrize(("sampler", "steps", "calls"), [("dpmpp-2m", 5, 5), ("ddim", 3, 3), ("euler", 4, 4)])
@pytest.mark.parametrize("images", [1, 3])
def test_a_batch_costs_one_network_call_a_step(sampler: Any, steps: int, calls: int, images: int) -> None:
    generator = Generator(tiny.class_model(), device="cpu")
    seen: list[int] = []
    generator.stages[0].denoiser.register_forward_hook(lambda *_: seen.append(1))
    generator.generate(generator.classes[:1], n=images, sampler=sampler, steps=steps, progress=False, guidance=2)
    assert len(seen) == calls
