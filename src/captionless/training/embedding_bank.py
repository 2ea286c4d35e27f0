"""Build the embedding bank of a training run from the vectors of its images and of its initial model's images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.model import BANK_ROWS, read_bank
from captionless.training.dataset import Dataset
from captionless.training.randomness import keyed_generator
from captionless.training.start import Start, start_folder

BANK_SIZE = 10_000
"""Maximum number of image vectors in an embedding bank; 10 MB for vectors of 512 elements."""
SAME_IMAGE = 0.999
"""Minimum cosine similarity at which two image vectors count as the same image."""


def embedding_bank(dataset: Dataset, start: Start, out: Path, seed: int, most: int = BANK_SIZE) -> dict[str, Tensor]:
    """Return the tensors of ``bank.safetensors``; empty for a class-conditional run or a super-resolution stage.

    ``vectors`` come from the run's own images. ``inherited`` come from the initial model, if it has the same encoder,
    and from that model's ancestors: a small folder rarely has a match for every prompt, and the network can still
    generate what it learned from the earlier images. There are at most ``most`` vectors in total. If some of the run's
    own images have none, ``rows`` tells which have: their places among the training images of ``pictures.csv``.
    """
    if dataset.encoder is None or start.base is not None:
        return {}
    rows = _some(len(dataset.train.conditions), most, seed)
    own = dataset.train.conditions[rows]
    inherited = _inherited(start, out)
    if len(inherited) and not start.resumed:
        inherited = inherited[(inherited @ own.T).amax(1) < SAME_IMAGE]
        inherited = inherited[_some(len(inherited), most - len(own), seed)]
    bank = {"vectors": own, "inherited": inherited} if len(inherited) else {"vectors": own}
    bank = {name: vectors.to(torch.float16) for name, vectors in bank.items()}
    return bank | ({BANK_ROWS: rows.int()} if len(own) < len(dataset.train.conditions) else {})


def _inherited(start: Start, out: Path) -> Tensor:
    """Return the vectors of earlier images: those that a resumed run already has, or all of the initial model."""
    if start.config is None or not start.same_condition_space:
        return torch.empty(0, 0)
    if start.resumed:
        return read_bank(out, start.config)[1]
    return torch.cat(read_bank(start_folder(str(start.initialised_from), upsamples=False), start.config))


def _some(count: int, limit: int, seed: int) -> Tensor:
    """Return the rows of a random sample of at most ``limit`` of ``count`` vectors, drawn without replacement."""
    if count <= limit:
        return torch.arange(count)
    return torch.randperm(count, generator=keyed_generator(seed, -2, 0))[:limit]
