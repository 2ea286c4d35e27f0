"""Networks and models small enough for a test, with weights that hide nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.checkpoints.config import EncoderReference, ModelConfig, TrainingRecord, save_config
from captionless.checkpoints.model import BANK, WEIGHTS, Model
from captionless.encoders.vocabulary import EncoderVocabulary
from captionless.models.unet import Denoiser, DenoiserConfig
from captionless.tensor_files import save_tensors

Module = TypeVar("Module", bound=nn.Module)

WIDTH = 8
"""Length of the condition vectors."""

SHAPE = DenoiserConfig(patch=1, width=16, multipliers=(1, 2), blocks=1, attention=(1,), condition_width=WIDTH)


def denoiser(shape: DenoiserConfig = SHAPE, *, seed: int = 0, **changes: object) -> Denoiser:
    """A denoiser that answers something: the layers that start at zero are given random weights too."""
    return awake(Denoiser(replace(shape, **changes)), seed).eval()  # type: ignore[arg-type]


@torch.no_grad()
def awake(network: Module, seed: int = 0) -> Module:
    """Draw every weight at random, at the scale that keeps activations of about 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 25
        weight.copy_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
        if "norm" in name and name.endswith("weight"):
            weight.add_(1)
    return network


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit_vectors(n: int, width: int = WIDTH, seed: int = 0) -> Tensor:
    return F.normalize(random(n, width, seed=seed), dim=1)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class AllWords(frozenset[str]):
    """Stands in for a set of all words."""

    def isdisjoint(self, other: Iterable[object]) -> bool:
        return not any(True for _ in other)


@dataclass(frozen=True)
class FakeEncoder:
    """Stands in for an encoder: every text has its own vector, and every picture."""

    name: str = "fake"
    digest: str = "0" * 64
    width: int = WIDTH
    logit_scale: float = 20.0
    image_size: int = 16

    @property
    def digests(self) -> set[str]:
        return {self.digest}

    @property
    def vocabulary(self) -> EncoderVocabulary:
        """Every word is familiar."""
        return EncoderVocabulary("things", (), AllWords(), AllWords())

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        return torch.cat([unit_vectors(1, self.width, seed) for seed in seeds])

    def encode_images(self, images: Sequence[Image]) -> Tensor:
        return self.encode_texts([hashlib.sha256(image.tobytes()).hexdigest() for image in images])


def model(**changes: object) -> Model:
    network = denoiser(**changes)  # type: ignore[arg-type]
    reference = EncoderReference("fake", "0" * 64, WIDTH, 20.0)
    config = ModelConfig(8, network.config, reference, training=TrainingRecord(images_seen=640, folder="fleurs d'été"))
    return Model("tiny", config, network, unit_vectors(12, seed=3))


def class_model(classes: tuple[str, ...] = ("daisy", "rose")) -> Model:
    network = denoiser(condition_width=len(classes))
    config = ModelConfig(8, network.config, None, classes=classes)
    return Model("tiny", config, network, torch.empty(0, len(classes)))


def saved(model: Model, folder: Path) -> Path:
    save_config(folder, model.config)
    save_tensors(folder / WEIGHTS, model.denoiser.state_dict())
    save_tensors(folder / BANK, {"vectors": model.bank})
    return folder
