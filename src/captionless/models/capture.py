"""Replay a function, or the calls of a network, on CUDA as captured graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import cudnn

EAGER = 3
"""Calls before the capture, in which libraries choose their algorithms and the optimizer creates its moments."""

GRAPHS = 16
"""Graphs that are kept of a network: for batches of up to 128 rows, each without perturbed attention and with it."""


class Captured:
    """Calls a function; on CUDA, captures it in a graph after a few calls, and replays the graph from then on.

    A graph repeats the operations of one call on the same memory, without Python. The function must therefore read and
    write tensors that keep their place, and must not wait for the device or branch on values. If it cannot be
    captured, it is called as it is.

    Args:
        function: the function to call.
        device: the device it works on.
        say: receives a remark if the function cannot be captured.
        pool: ``torch.cuda.graph_pool_handle()`` of graphs that share their memory, because only one runs at a time.
    """

    def __init__(
        self,
        function: Callable[[], None],
        device: torch.device,
        say: Callable[[str], None],
        pool: Any = None,
    ) -> None:
        self.function, self.say, self.pool = function, say, pool
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
            # What other threads do with the device, such as to allocate memory, does not spoil the capture.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                self.function()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            self.say(f"Steps are not captured as a CUDA graph ({reason}). Each is launched by Python, which is slower.")
            return self.function
        return graph.replay


def captured_network(
    network: nn.Module, device: torch.device, say: Callable[[str], None]
) -> nn.Module | CapturedNetwork:
    """Return the network as it is, or on CUDA one whose calls are replayed; see ``CapturedNetwork``."""
    return CapturedNetwork(network, device, say) if device.type == "cuda" else network


class CapturedNetwork:
    """Calls a network without gradients, and replays a captured graph of it for inputs of a shape that came before.

    A call has the next power of two of rows, so that few graphs serve all batches, even those that images join and
    leave from call to call; what the rows without an image give is dropped. The graphs share their memory, which is
    that of the largest. Weights may change and be replaced; if they move, the network is captured anew.

    Args:
        network: maps float32 tensors of n rows to n rows, each of which depends on no other.
        device: the device it works on.
        say: receives a remark if the network cannot be captured.
    """

    def __init__(self, network: nn.Module, device: torch.device, say: Callable[[str], None]) -> None:
        self.network = network
        self._capture = partial(Captured, device=device, say=say, pool=torch.cuda.graph_pool_handle())
        self._lock = threading.Lock()
        self._calls: dict[object, Callable[..., Tensor]] = {}  # the last used comes last
        self._places: list[int] = []  # of the weights, in memory

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Call the network, or replay its call with these inputs."""
        with self._lock:  # one thread's inputs must not take the place of another's
            return self._call(inputs)(*inputs)

    def _call(self, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        """Return the function for inputs of these shapes, in the number format that is set."""
        places = [weight.data_ptr() for weight in self.network.parameters()]
        if places != self._places:
            self._calls.clear()
            self._places = places
        rows = 1 << (len(inputs[0]) - 1).bit_length()
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (rows, *(one.shape[1:] for one in inputs), dtype, cudnn.allow_tf32)
        call = self._calls.pop(key, None)
        if call is None:
            call = _captured_call(self.network, self._capture, [_zeros(one, rows) for one in inputs], dtype)
        self._calls[key] = call
        if len(self._calls) > GRAPHS:
            del self._calls[next(iter(self._calls))]
        return call


def _captured_call(
    network: nn.Module,
    capture: Callable[[Callable[[], None]], Captured],
    inputs: list[Tensor],
    dtype: torch.dtype | None,
) -> Callable[..., Tensor]:
    """Return a function that calls a network with the rows it is given in ``inputs``, captured after a few calls.

    ``dtype`` is the number format of autocast, or None without.
    """
    outputs: list[Tensor] = []

    def function() -> None:
        # A graph must not read weights that autocast converted before, because these are freed when autocast ends.
        with torch.autocast("cuda", dtype, dtype is not None, cache_enabled=False):
            outputs[:] = [network(*inputs)]

    captured = capture(function)

    def call(*given: Tensor) -> Tensor:
        n = len(given[0])
        for place, value in zip(inputs, given, strict=True):
            place[:n].copy_(value)
        captured()
        return outputs[0][:n].clone()  # the next replay overwrites it

    return call


def _zeros(like: Tensor, rows: int) -> Tensor:
    """Return zeros of the shape of a tensor except for the number of rows; images are channels last."""
    zeros = like.new_zeros(rows, *like.shape[1:])
    return zeros.contiguous(memory_format=torch.channels_last) if zeros.dim() == 4 else zeros
