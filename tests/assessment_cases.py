"""A tiny world to grade in: images of coloured noise, one class per colour, and models that generate such colours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captionless.checkpoints.config import ModelConfig, TrainingRecord, save_config
from captionless.checkpoints.model import WEIGHTS
from captionless.config.sampling import SamplingConfig
from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.metrics import share
from captionless.models.unet import Denoiser, DenoiserConfig
from captionless.tensor_files import save_tensors

COLOURS = {"daisy": (40, 120, 60), "rose": (180, 50, 50), "tulip": (60, 60, 190)}
CLASSES = tuple(COLOURS)
FAST = SamplingConfig(steps=2, guidance=0.0, precision="float32")
SHAPE = DenoiserConfig(patch=1, width=16, multipliers=(1,), blocks=1, attention=(), condition_width=len(CLASSES))


def photos(folder: Path, n: int = 12, seed: int = 0, colours: Mapping[str, tuple[int, int, int]] = COLOURS) -> Path:
    """``n`` images per class, in sub-folders."""
    generator = torch.Generator().manual_seed(seed)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = torch.tensor(colour) + 60 * torch.rand(8, 8, 3, generator=generator) - 30
            Image.fromarray(pixels.clamp(0, 255).byte().numpy()).save(folder / name / f"{seed}-{i}.png")
    return folder


@cache
def trained_weights() -> dict[str, torch.Tensor]:
    """Weights of a network that predicts the colour of class i for condition i, whatever the noise."""
    torch.manual_seed(0)
    network, generator = Denoiser(SHAPE).train(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    colours = torch.tensor(list(COLOURS.values())) / 127.5 - 1
    for _ in range(60):
        chosen = torch.randint(len(CLASSES), (8,), generator=generator)
        x = torch.randn(8, 3, 8, 8, generator=generator)
        x0 = network(x, torch.rand(8, generator=generator), torch.eye(len(CLASSES))[chosen])
        (x0 - colours[chosen][:, :, None, None]).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return network.state_dict()


def model(folder: Path, classes: tuple[str, ...] = CLASSES, **training: Any) -> Path:
    """A model folder that generates the colour of ``CLASSES[i]`` for its class i: with other names, a wrong one."""
    folder.mkdir(parents=True)
    save_tensors(folder / WEIGHTS, trained_weights())
    save_config(
        folder, ModelConfig(8, SHAPE, None, prediction="x0", training=TrainingRecord(**training), classes=classes)
    )
    return folder


def classifier(*right: tuple[int, int], classes: tuple[str, ...] = CLASSES) -> ReferenceClassifier:
    """A classifier without a network: for each class, how many of how many held-out images it recognises."""
    return ReferenceClassifier(None, classes, tuple(share(*one) for one in right))  # type: ignore[arg-type]
