"""Replay a function on CUDA as one captured graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

EAGER = 3
"""Calls before the capture, in which libraries choose their algorithms and the optimizer creates its moments."""


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
