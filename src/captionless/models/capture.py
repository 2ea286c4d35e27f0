"""Replay a function, or the calls of a network, on CUDA as captured graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

EAGER = 3
"""Calls before the capture, in which libraries choose their algorithms and the optimizer creates its moments."""

GRAPHS = 6
"""Graphs that are kept of a network: for a full and for the last batch of images, each without guidance, with it,
and with perturbed attention."""


class Captured:
    """Calls a function; on CUDA, captures it in a graph after a few calls, and replays the graph from then on.

    A graph repeats the operations of one call on the same memory, without Python. The function must therefore read and
    write tensors that keep their place, and must not wait for the device or branch on values. If it cannot be
    captured, it is called as it is.

    Args:
        function: the function to call.
        device: the device it works on.
        say: receives a remark if the function cannot be captured.
    """

    def __init__(self, function: Callable[[], None], device: torch.device, say: Callable[[str], None]) -> None:
        self.function, self.say = function, say
        self.run, self.left = function, -1
        if device.type == "cuda":
            self.run, self.left, self.stream = self._call_beside, EAGER, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self) -> None:
        """Call the function once, or replay it."""
        if self.left == 0:
            self.run = self._capture()
        self.left -= 1
        self.run()

    def _call_beside(self) -> None:
        """Call the function on another stream than the default one, which cannot be captured."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.function()
        torch.cuda.current_stream().wait_stream(self.stream)

    def _capture(self) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.function()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            self.say(f"Steps are not captured as a CUDA graph ({reason}). Each is launched by Python, which is slower.")
            return self.function
        return graph.replay


def captured_network(
    network: Callable[..., Tensor], device: torch.device, say: Callable[[str], None]
) -> Callable[..., Tensor]:
    """Return a function that calls a network without gradients; on CUDA, it replays a graph for each shape of inputs.

    It keeps the last ``GRAPHS`` graphs. The weights must keep their place; their values may change.

    Args:
        network: a function of dense float32 tensors on ``device``.
        device: the device it works on.
        say: receives a remark if the network cannot be captured.
    """
    if device.type != "cuda":
        return network
    calls = lru_cache(GRAPHS)(partial(_captured_call, network, device, say))

    @torch.inference_mode()
    def call(*inputs: Tensor) -> Tensor:
        return calls(torch.is_autocast_enabled("cuda"), *((one.shape, one.stride()) for one in inputs))(*inputs)

    return call


def _captured_call(
    network: Callable[..., Tensor],
    device: torch.device,
    say: Callable[[str], None],
    autocast: bool,
    *layouts: tuple[torch.Size, tuple[int, ...]],
) -> Callable[..., Tensor]:
    """Return a function that calls a network with inputs of fixed shapes and strides, captured after a few calls."""
    inputs = [torch.empty_strided(*layout, device=device) for layout in layouts]
    outputs: list[Tensor] = []

    def function() -> None:
        # A graph must not read weights that autocast converted before, because these are freed when autocast ends.
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), autocast, cache_enabled=False):
            outputs[:] = [network(*inputs)]

    captured = Captured(function, device, say)

    def call(*given: Tensor) -> Tensor:
        for target, value in zip(inputs, given, strict=True):
            target.copy_(value)
        captured()
        return outputs[0].clone()  # the next replay overwrites it

    return call
