"""Feed the images of a training run to its device, in the order of the stream of images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from captionless.training.dataset import Examples
from captionless.training.randomness import keyed_generator

SHARE = 0.5
"""Share of a device's free memory that the images of a run may take; more images are copied batch by batch."""


def batch_indices(n: int, positions: range, seed: int) -> Tensor:
    """Return the indices of the images at successive positions; every epoch over the ``n`` images has its own order."""
    parts, first = [], positions.start
    while first < positions.stop:
        epoch, offset = divmod(first, n)
        end = min(positions.stop, (epoch + 1) * n)
        parts.append(_epoch_order(n, seed, epoch)[offset : offset + end - first])
        first = end
    return torch.cat(parts)


@lru_cache(maxsize=2)
def _epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=keyed_generator(seed, -1, epoch))


class Feed:
    """The inputs of a training step, in tensors that keep their place, so that a captured step can read them.

    Args:
        examples: the training images.
        count: the number of images that this process trains on in a step.
        device: the device of the network.

    Attributes:
        pixels: uint8 (count, channels, size, size), larger where crops are to be cut from them; latents are float16.
        conditions: float32 (count, d).
        low_res: the images at the base model's size, for a super-resolution stage without crops, else None.
    """

    def __init__(self, examples: Examples, count: int, device: torch.device) -> None:
        images = (examples.pixels, examples.low_res) if examples.source is None else (examples.source, None)
        tensors = [one for one in (images[0], examples.conditions, images[1]) if one is not None]
        self._n, self._device = len(examples.pixels), device
        self._sources = [one.to(device) for one in tensors] if _fits(tensors, device) else tensors
        self._inputs = [torch.empty_like(one[:1].expand(count, *one.shape[1:]), device=device) for one in tensors]
        self.pixels, self.conditions, *rest = self._inputs
        self.low_res = rest[0] if rest else None

    def load(self, positions: range, seed: int) -> None:
        """Load the images at the given positions, without waiting for the device."""
        index = batch_indices(self._n, positions, seed)
        at = self._move(index) if self._sources[0].device == self._device else index
        for source, target in zip(self._sources, self._inputs, strict=True):
            if source.device == target.device:
                torch.index_select(source, 0, at, out=target)
            else:
                target.copy_(self._pinned(source[index]), non_blocking=self._device.type == "cuda")

    def _move(self, tensor: Tensor) -> Tensor:
        return self._pinned(tensor).to(self._device, non_blocking=self._device.type == "cuda")

    def _pinned(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to page-locked memory, from which CUDA copies while the host goes on."""
        return tensor.pin_memory() if self._device.type == "cuda" else tensor


def _fits(tensors: list[Tensor], device: torch.device) -> bool:
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    else:
        return True
    return sum(tensor.nbytes for tensor in tensors) < SHARE * free
