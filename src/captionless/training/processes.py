"""Exchange values between the processes of a training run."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, distributed


class Processes:
    """The processes that train together, seen from one of them; a single process exchanges nothing.

    Args:
        accelerator: describes the processes; None for a process that trains on its own.

    Attributes:
        index: the number of this process, from 0.
        number: the number of processes.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.index = accelerator.process_index if accelerator else 0
        self.number = accelerator.num_processes if accelerator else 1
        # Values of the host travel between hosts, so that no process waits for its device.
        self._hosts = distributed.new_group(backend="gloo") if self.number > 1 else None

    def part(self, count: int) -> range:
        """Return the part of ``count`` items that belongs to this process."""
        return range(self.index * count // self.number, (self.index + 1) * count // self.number)

    def add(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.number > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            distributed.all_reduce(flat)
            for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def least(self, value: float) -> float:
        """Return the smallest value that any process has."""
        if self.number == 1:
            return value
        values = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(values, distributed.ReduceOp.MIN, group=self._hosts)
        return float(values)
