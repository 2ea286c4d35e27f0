"""Small evaluations: folders of images and models without training, and contexts of tensors alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import tiny
from captionless.checkpoints.image_list import write_image_list
from captionless.checkpoints.model import Model
from captionless.config.evaluation import ClassifierConfig, EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.features import Features
from captionless.evaluation.classifier import ReferenceClassifier, train_reference
from captionless.evaluation.context import EvaluationContext
from captionless.evaluation.data import EvaluationData, ImageSet
from captionless.generation.generator import Generator
from captionless.progress import Silent

SMALL_CLASSIFIER = ClassifierConfig(images_seen=(320, 320), batch=32, small_size=8, growth=((1.0, 1.0),))
FAST = SamplingConfig(steps=1, precision="float32")


class Remembers(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def sample_photos(folder: Path, n: int, seed: int = 0) -> Path:
    """Images of noise on two colours, in two sub-folders."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(n):
        kind = "rose" if i % 2 else "daisy"
        pixels = 60 * torch.rand(12, 12, 3, generator=generator) + torch.tensor(
            [[30.0, 90, 30], [150.0, 20, 20]][i % 2]
        )
        path = folder / kind / f"{seed}-{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)
    return folder


def write_model(folder: Path, photos: Path, trained: float = 0.5, model: Model | None = None) -> Path:
    """A model folder whose record says that it was trained on a share of the photos, the first of each kind."""
    folder.mkdir(parents=True)
    tiny.saved(model or tiny.model(), folder)
    rows = []
    for kind in sorted(photos.iterdir()):
        paths = sorted(kind.iterdir())
        for i, path in enumerate(paths):
            role = "train" if i < trained * len(paths) else "held out"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append((path.relative_to(photos).as_posix(), digest, role))
    write_image_list(folder, rows)
    return folder


def small_config(**changes: Any) -> EvaluationConfig:
    """Sizes of an evaluation that takes a second or two."""
    sizes: dict[str, Any] = {"training_samples": 8, "prompt_images": 24, "classifier": SMALL_CLASSIFIER}
    return EvaluationConfig(**{**sizes, **changes})


def make_fast(patch: pytest.MonkeyPatch, place: Path) -> None:
    """Use the place's cache; from the command line too, train the classifier for a few steps only."""
    patch.setenv("CAPTIONLESS_CACHE", str(place / "cache"))

    def quick(*given: Any, **options: Any) -> ReferenceClassifier:
        return train_reference(*given, **{**options, "config": SMALL_CLASSIFIER})

    patch.setattr("captionless.evaluation.one_model.train_reference", quick)


# --- contexts of tensors alone ---

Sample = Callable[[Tensor, int], Tensor]
"""Conditions (n, d) and an offset of seeds → pixels, uint8 (n, 3, 8, 8)."""


def noise(conditions: Tensor, offset: int) -> Tensor:
    """Images that have nothing to do with anything."""
    generator = torch.Generator().manual_seed(1 + offset)
    return torch.randint(256, (len(conditions), 3, 8, 8), generator=generator, dtype=torch.uint8)


@dataclass(frozen=True)
class FakeContext(EvaluationContext):
    """A context whose images a function makes."""

    images: Sample = noise

    def sample_pixels(self, conditions: Tensor, offset: int) -> Tensor:
        return self.images(conditions, offset)


def image_set(n: int, seed: int, labels: Sequence[str | None] | None = None) -> ImageSet:
    """Random images."""
    pixels = torch.randint(256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    names = tuple(f"{seed}-{i}" for i in range(n))
    return ImageSet(names, names, pixels, tiny.unit_vectors(n, seed=seed), tuple(labels or [None] * n))


def split(seen: ImageSet, held_out: ImageSet, **changes: Any) -> EvaluationData:
    """A folder of which a model was trained on ``seen``."""
    return EvaluationData(
        **{
            "seen": seen,
            "held_out": held_out,
            "everything": seen,
            "trained": {digest: digest for digest in seen.digests},
            **changes,
        }
    )


def pixel_features(images: Sequence[Image.Image]) -> Tensor:
    """The pixels themselves, float32 (n, 192)."""
    return torch.stack([torch.tensor(list(image.tobytes())) for image in images]).float()


def context(
    data: EvaluationData | None = None,
    images: Sample = noise,
    model: Model | None = None,
    config: EvaluationConfig | None = None,
    **changes: Any,
) -> EvaluationContext:
    """A context whose features are pixels; by default of 60 training images and 50 held-out ones, and no prompts."""
    generator = Generator(model or tiny.model(), tiny.FakeEncoder() if model is None else None)  # type: ignore[arg-type]
    config, data = config or small_config(), data or split(image_set(60, 0), image_set(50, 1))
    real = data.held_out if len(data.held_out) else data.seen
    made = FakeContext(
        generator,
        FAST,
        config,
        data,
        real,
        None,
        Features("pixels", False, pixel_features),
        "the prompts have no labels",
        data.seen.conditions[: config.training_samples if len(data.held_out) else 0],
        Silent(),
        images,
    )
    return replace(made, **changes)


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1."""
    return F.normalize(x, dim=1)
