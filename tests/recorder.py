"""A recorder of operations, which stands in for a CUDA graph on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


class FakeGraph:
    """Stands in for a CUDA graph: captures by recording."""

    def __init__(self) -> None:
        self.recorder = Recorder()

    def replay(self) -> None:
        self.recorder.replay()
