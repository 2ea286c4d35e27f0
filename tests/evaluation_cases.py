"""A tiny world to evaluate in: an encoder, photos, and a model trained on half of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import encoder_factory
from captionless.config.evaluation import EvaluationConfig
from captionless.evaluation.classifier import train as pixel_classifier
from captionless.training.run import train

TINY: dict[str, Any] = {"size": 8, "width": 16, "batch": 8, "images": 32, "precision": "float32"}


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


def build_place(root: Path, n: int = 60) -> Path:
    """``encoder``, ``photos`` (n of them) and ``model``, which was trained on about half."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONLESS_CACHE", str(root / "cache"))
        encoder = encoder_factory.small_pair(root / "encoder")
        train(sample_photos(root / "photos", n), root / "model", encoder=str(encoder), hold_out=0.5, **TINY)
    return root


def small_config(**changes: Any) -> EvaluationConfig:
    """Sizes of an evaluation that takes a second or two."""
    sizes = {"training_samples": 8, "prompt_images": 24, "sweep_images": 4, "sweep_steps": (1, 2)}
    return EvaluationConfig(**{**sizes, **changes})


def make_fast(patch: pytest.MonkeyPatch, place: Path) -> None:
    """Use the place's cache, and train the classifier for a few steps only."""
    patch.setenv("CAPTIONLESS_CACHE", str(place / "cache"))
    for name, value in {"SEEN": (320, 320), "BATCH": 32, "TINY": 8, "GROWTH": ((1.0, 1.0),)}.items():
        patch.setattr(pixel_classifier, name, value)
