"""A small model that can be exported: two stages, and an encoder as it is learned from names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from captionless.checkpoints.model import Model
from captionless.checkpoints.quantisation import quantised, restored
from captionless.conditioning.composition import Composition
from captionless.config.sampling import SamplingConfig
from captionless.encoders.name_encoder import NameText
from captionless.encoders.name_text import choose_pieces
from captionless.encoders.name_text import piece_matrix as piece_matrix
from captionless.generation.generator import Generator
from captionless.models.unet import Denoiser

NAMES = ("red rose", "white daisy", "yellow tulip", "rosebud", "two daisies")


@dataclass(frozen=True)
class NameLikeEncoder(tiny.FakeEncoder):
    """An encoder whose text side is that of ``captionless encoder``."""

    folder: Path = Path()
    text: Any = field(default=None)
    text_limit: int = 1_000_000

    def encode_texts(self, texts: Any) -> Tensor:
        return F.normalize(self.text.encode(texts), dim=1)


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


def generate(generator: Generator, request: dict[str, Any]) -> list[Any]:
    """Generate the images of a request in the words of the page."""
    settings = {name: request[name] for name in ("guidance", "variety", "steps", "sampler")}
    size = int(request["size"].split("x")[0]) if "size" in request else None
    sampling = SamplingConfig(**settings, size=size, precision="float32")
    composition = Composition(negative=request.get("negative_prompt"), towards=request.get("towards"))
    return generator.generate(
        request["prompt"], request["n"], request["seed"], sampling=sampling, composition=composition
    )


def _encoder(folder: Path) -> NameLikeEncoder:
    pieces = choose_pieces(NAMES)
    (folder / "tokenizer.json").write_text(json.dumps({"pieces": pieces}), encoding="utf-8")
    projection = tiny.random(len(pieces), tiny.WIDTH).half().float()
    return NameLikeEncoder(folder=folder, text=NameText(pieces, projection, torch.full((tiny.WIDTH,), 0.1)))


def _rounded(network: Denoiser) -> Denoiser:
    """Give a network weights that keep their values in 8 bits."""
    network.load_state_dict(restored(quantised(network.state_dict())))
    return network
