"""The captioned photographs: records, pixels, and the augmented views used in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

SIDE = 192
"""The side of the encoder's input in pixels, and the largest shorter side of a photograph."""

MEAN, DEVIATION = 127 / 255, 128 / 255
"""Normalisation of EfficientNet-Lite: (255 x - 127) / 128 for x in 0..1."""


@dataclass(frozen=True)
class Photograph:
    """One line of ``captions.jsonl``."""

    file: str
    split: str
    caption: str
    flower: str
    petals: str
    center: str
    count: str
    view: str
    photo: str
    clear: bool


def read_records(folder: Path, split: str) -> list[Photograph]:
    """Read the records of one split (``train`` or ``val``), in the order of the file."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [Photograph(**json.loads(line)) for line in lines if line.strip()]
    return [record for record in records if record.split == split]


def load_pixels(folder: Path, records: Sequence[Photograph]) -> list[Tensor]:
    """Read photographs as uint8 tensors (3, height, width), in their aspect ratio, with a shorter side of ``SIDE``."""
    pixels = []
    for record in records:
        with Image.open(folder / record.file) as opened:
            image = opened.convert("RGB")
        ratio = SIDE / min(image.size)
        if ratio != 1:
            size = (max(SIDE, round(image.width * ratio)), max(SIDE, round(image.height * ratio)))
            image = image.resize(size, Image.Resampling.BICUBIC)
        pixels.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
    return pixels


def normalise(batch: Tensor) -> Tensor:
    """Normalise uint8 or 0..255 float images (n, 3, s, s) for the network."""
    return ((batch.float() - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)


def centre(pixels: Tensor) -> Tensor:
    """Return the centre crop, (3, SIDE, SIDE)."""
    _, height, width = pixels.shape
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return pixels[:, top : top + SIDE, left : left + SIDE]


def random_view(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Return a flipped, cropped, sometimes coarse or slightly lighter view, (3, SIDE, SIDE), float 0..255.

    Hue and saturation stay as they are: petal colours are part of what is learned.
    """
    _, height, width = pixels.shape
    side = int(SIDE * rng.uniform(0.65, 1.0))
    top = int(np.clip(rng.normal(0.5, 0.25), 0, 1) * (height - side))
    left = int(np.clip(rng.normal(0.5, 0.25), 0, 1) * (width - side))
    view = pixels[None, :, top : top + side, left : left + side].float()
    if rng.random() < 0.2:  # the diffusion model works with images of 32 to 96 pixels
        view = F.interpolate(view, size=int(rng.integers(32, 97)), mode="bicubic", antialias=True)
    view = F.interpolate(view, size=SIDE, mode="bicubic", antialias=True)
    if rng.random() < 0.5:
        view = view.flip(-1)
    return (view * rng.uniform(0.88, 1.12)).clamp(0, 255)[0]
