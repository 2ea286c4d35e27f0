"""Fixtures of the tests of exports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def traced_once() -> Iterator[None]:
    """Let PyTorch turn equal networks into a graph only once; it takes many seconds each time.

    What is done with the graph afterwards is done to a copy of it, as ``model_proto`` makes a new one for each caller.
    """
    export, known = torch.onnx.export, dict[Any, Any]()

    def once(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], **options: Any) -> Any:
        weights = ((name, value.shape, value.numpy().tobytes()) for name, value in network.state_dict().items())
        key = (repr(network), repr(options), *(value.shape for value in inputs), *weights)
        if key not in known:
            known[key] = export(network, inputs, **options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", once)
        yield
