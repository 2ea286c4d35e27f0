"""Exchange values between the processes of a training run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator
from torch import Tensor, distributed

from captionless.errors import CaptionlessError

PATIENCE = timedelta(days=30)
"""Time for which a process waits for another that reads the images, writes a checkpoint or validates. The default group
gives up after minutes, which is right only for the exchange of gradients."""


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
        self._hosts = distributed.new_group(backend="gloo", timeout=PATIENCE) if self.number > 1 else None

    def part(self, count: int) -> range:
        """Return the part of ``count`` items that belongs to this process."""
        return range(self.index * count // self.number, (self.index + 1) * count // self.number)

    def add(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.number > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with _others_ended():
                distributed.all_reduce(flat)
            for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def least(self, value: float) -> float:
        """Return the smallest value that any process has."""
        if self.number == 1:
            return value
        values = torch.tensor(value, dtype=torch.float64)
        with _others_ended():
            distributed.all_reduce(values, distributed.ReduceOp.MIN, group=self._hosts)
        return float(values)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.least(0.0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the first process do something before the others."""
        if self.index:
            self.wait()
        yield
        if not self.index:
            self.wait()


def remark_on_launcher(processes: Processes, say: Callable[[str], None]) -> None:
    """Say so if accelerate was asked for several processes on CPUs, of which it starts one."""
    known = os.environ
    asked = known.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in known
    if processes.number == 1 and asked and "WORLD_SIZE" not in known:
        say(
            "accelerate launch --cpu started a single process: on CPUs, it starts several only through MPI. Use "
            "torchrun --nproc-per-node NUMBER -m captionless train …"
        )


@contextmanager
def _others_ended() -> Iterator[None]:
    """Convert the error of an exchange with a process that has ended."""
    try:
        yield
    except RuntimeError as error:
        raise CaptionlessError(
            "another process of this training has ended, or does not answer; its own message says why. Start the "
            "training again with `resume=True`.",
            code="process_ended",
        ) from error
