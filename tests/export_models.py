"""A small model that can be exported: two stages, and an encoder as it is learned from names."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image, fromarray
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from captionless.checkpoints.model import Model
from captionless.checkpoints.quantisation import quantised, restored
from captionless.conditioning.composition import Composition
from captionless.config.sampling import SamplingConfig
from captionless.encoders.name_encoder import NameText
from captionless.encoders.name_text import choose_pieces
from captionless.encoders.name_text import piece_matrix as piece_matrix
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.models.unet import Denoiser
from encoder_factory import clip_image_processor

NAMES = ("red rose", "white daisy", "yellow tulip", "rosebud", "two daisies", "porsche 911")


@dataclass(frozen=True)
class NameLikeEncoder(tiny.FakeEncoder):
    """An encoder whose text side is that of ``captionless encoder``, with a small image side."""

    folder: Path = Path()
    text: Any = field(default=None)
    text_limit: int = 1_000_000
    image_processor: Any = field(default=None)
    model: Any = field(default=None)

    def encode_texts(self, texts: Any) -> Tensor:
        return F.normalize(self.text.encode(texts), dim=1)

    def encode_images(self, images: Any) -> Tensor:
        pixels = self.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        return F.normalize(self.model.get_image_features(pixels), dim=1)


class ImageSide(nn.Module):
    """A convolution and a projection, whose weights keep their values in 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.projection = nn.Conv2d(3, 16, 4, 4), nn.Linear(16 * 16, tiny.WIDTH)
        tiny.awake(self).half().float()

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return self.projection(torch.relu(self.part(pixel_values)).flatten(1))


def plain(folder: Path) -> Generator:
    """A model of 8 x 8 pixels that is exported in a third of the time; the files of its encoder are in ``folder``."""
    model = tiny.model(multipliers=(1,), attention=())
    _rounded(model.denoiser)
    return Generator(model, encoder=_encoder(folder), device="cpu")  # type: ignore[arg-type]


def cascade(folder: Path) -> Generator:
    """A model of 8 x 8 pixels with a stage for 16 x 16; the files of its encoder are in ``folder``."""
    base = tiny.model(tokens=2)
    _rounded(base.denoiser)
    network = _rounded(tiny.denoiser(low_res_channels=4, multipliers=(1,), attention=(), seed=1))
    config = replace(base.config, size=16, base_size=8, denoiser=network.config)
    model = Model("tiny", config, network, base.bank, base)
    return Generator(model, encoder=_encoder(folder), device="cpu")  # type: ignore[arg-type]


@contextmanager
def traced_once() -> Iterator[None]:
    """Let PyTorch turn equal networks into a graph only once; it takes many seconds each time.

    What is done with the graph afterwards is done to a copy of it, as ``model_proto`` makes a new one for each caller.
    """
    export, known = torch.onnx.export, dict[Any, Any]()

    def once(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], **options: Any) -> Any:
        weights = ((name, value.shape, value.numpy().tobytes()) for name, value in network.state_dict().items())
        key = (repr(network), repr(options), *(value.shape for value in inputs), *weights)
        if key not in known:
            known[key] = export(network, inputs, **options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", once)
        yield


def generate(
    generator: Generator, request: dict[str, Any], like: Image | None = None, edit: Edit | None = None
) -> list[Any]:
    """Generate the images of a request in the words of the page; photographs are given as such."""
    settings = {name: request[name] for name in ("guidance", "variety", "steps", "sampler")}
    size = int(request["size"].split("x")[0]) if "size" in request else None
    sampling = SamplingConfig(**settings, size=size, precision="float32")
    composition = Composition(
        negative=request.get("negative_prompt"),
        towards=request.get("towards"),
        like=like,
        like_share=request.get("like_share", 0.5),
    )
    return generator.generate(
        request["prompt"], request["n"], request["seed"], sampling=sampling, composition=composition, edit=edit
    )


def _encoder(folder: Path) -> NameLikeEncoder:
    pieces = choose_pieces(NAMES)
    (folder / "tokenizer.json").write_text(json.dumps({"pieces": pieces}), encoding="utf-8")
    projection = tiny.random(len(pieces), tiny.WIDTH).half().float()
    text = NameText(pieces, projection, torch.full((tiny.WIDTH,), 0.1))
    sides = {"image_processor": clip_image_processor(16), "model": ImageSide().eval().requires_grad_(False)}
    return NameLikeEncoder(folder=folder, text=text, **sides)


def _rounded(network: Denoiser) -> Denoiser:
    """Give a network weights that keep their values in 8 bits."""
    network.load_state_dict(restored(quantised(network.state_dict())))
    return network


def photograph(side: int) -> tuple[Image, Image]:
    """A square photograph with edges and noise, and a mask that is white in a circle."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    noise = np.random.default_rng(0).normal(0, 30, (side, side, 3))
    pixels = 127 + 120 * np.sign(np.sin(9 * x + y))[..., None] + noise * [1, 0.5, 0]
    mask = np.clip((0.6 - np.hypot(x, y)) * 2000, 0, 255).astype(np.uint8)
    return fromarray(pixels.clip(0, 255).astype(np.uint8)), fromarray(mask)


def rgba(photo: Image, mask: Image) -> dict[str, Any]:
    """A photograph as the page gives it, transparent where the mask is white."""
    pixels = np.dstack([np.asarray(photo), 255 - np.asarray(mask)])
    return {"side": photo.width, "data": base64.b64encode(pixels.tobytes()).decode()}
