"""Write the two sides of an encoder as ONNX files, and describe how texts and images become their inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.encoders.dual_encoder import Encoder
from captionless.encoders.name_encoder import NameText
from captionless.encoders.name_text import LENGTHS, PIECE_WEIGHT
from captionless.encoders.text_side import BertText, TransformersText
from captionless.encoders.vocabulary import VOCABULARY, WORD
from captionless.errors import CaptionlessError
from captionless.exports.graphs import halve, halve_all, write_graph
from captionless.text_files import write_text

TEXT, IMAGE, TOKENIZER = "text.onnx", "image.onnx", "tokenizer.json"
FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's filters by number, as image processors name them."""


class TokenVectors(nn.Module):
    """A text side that reads tokens: ids (n, length), -1 behind the end of a text, to unit vectors (n, width).

    Args:
        vectors: returns the vectors of ids, not normalised.
        weights: the module that holds the weights, if there is one.
    """

    def __init__(self, vectors: Callable[[Tensor], Tensor], weights: nn.Module | None = None) -> None:
        super().__init__()
        self.vectors, self.weights = vectors, weights

    def forward(self, ids: Tensor) -> Tensor:
        """Return the unit vectors of texts."""
        return F.normalize(self.vectors(ids), dim=1)


class PieceVectors(nn.Module):
    """The text side of an encoder learned from names: weights of pieces (n, pieces) to unit vectors (n, width)."""

    projection: Tensor
    shift: Tensor

    def __init__(self, text: NameText) -> None:
        super().__init__()
        self.register_buffer("projection", text.projection)
        self.register_buffer("shift", text.shift)

    def forward(self, pieces: Tensor) -> Tensor:
        """Return the unit vectors of texts."""
        return F.normalize(F.normalize(pieces, dim=1) @ self.projection - self.shift, dim=1)


class PixelVectors(nn.Module):
    """An image side: preprocessed images (n, 3, size, size) to unit vectors (n, width)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the unit vectors of images."""
        return F.normalize(_tensor(self.network.get_image_features(pixel_values=pixels)), dim=1)


def write_text_side(encoder: Encoder, folder: Path, packed: bool) -> dict[str, Any]:
    """Write the text side of an encoder with its tokenizer, and return what there is to know about it.

    Args:
        encoder: the bundled encoder, one learned from names, or one of the class ``CLIPModel``.
        folder: an existing folder.
        packed: store weights in 16 bits if nothing is lost by it. (The bridge amplifies what is lost there: another
            draw of its mixture is another image.)

    Raises:
        CaptionlessError: the encoder is none of these.
    """
    network: nn.Module
    inputs = {"ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, -1]])}
    match encoder.text:
        case BertText():
            network, kind = TokenVectors(encoder.text.vectors), "tokens"
        case NameText():
            network, kind = PieceVectors(encoder.text), "pieces"
            inputs = {"pieces": torch.rand(2, len(encoder.text.pieces))}
            write_text(folder / TOKENIZER, json.dumps(pieces_file(encoder.text.pieces)))
        case TransformersText() if encoder.model.config.model_type == "clip":
            network, kind = TokenVectors(_clip_vectors(encoder.model), encoder.model), "bytes"
        case _:
            raise CaptionlessError(
                f"the model reads prompts with the encoder {encoder.name}, which cannot be exported. Export a model "
                "with the bundled encoder, one learned from names, a CLIP model, or classes."
            )
    write_graph(
        network, inputs, "vectors", folder / TEXT, free={"ids": ("n", "length")}, pack=halve if packed else None
    )
    for name in (TOKENIZER, VOCABULARY):
        if (encoder.folder / name).is_file() and not (folder / name).exists():
            shutil.copyfile(encoder.folder / name, folder / name)
    vocabulary = VOCABULARY if (folder / VOCABULARY).is_file() else None
    own = {"graph": TEXT, "kind": kind, "tokenizer": TOKENIZER, "limit": encoder.text_limit}
    return {**own, "vocabulary": vocabulary}


def pieces_file(pieces: Mapping[str, float]) -> dict[str, Any]:
    """Return the tokenizer file of an encoder learned from names: how texts are cut, and the pieces of the graph.

    The pieces are pairs of piece and weight, because an object would not keep their order: JavaScript enumerates keys
    that are integers, such as the piece "911", first.
    """
    return {"word": WORD, "lengths": LENGTHS, "piece_weight": PIECE_WEIGHT, "pieces": list(pieces.items())}


def write_image(encoder: Encoder, folder: Path, packed: bool) -> dict[str, Any] | None:
    """Write the image side of an encoder, and return how it wants images.

    Args:
        encoder: any encoder.
        folder: an existing folder.
        packed: round weights to 16 bits.

    Returns:
        The side of the images in pixels, the filter to resize them with, and mean and standard deviation of each
        channel, from 0 to 1; None if its images are not prepared in the way of CLIP.
    """
    steps = encoder.image_processor.to_dict()
    side, crop = encoder.image_size, {"height": encoder.image_size, "width": encoder.image_size}
    known = steps.get("size") == {"shortest_edge": side} and steps.get("crop_size") == crop
    done = all(steps.get(f"do_{step}") for step in ("resize", "center_crop", "rescale", "normalize"))
    if not (known and done and steps["resample"] in FILTERS and abs(steps["rescale_factor"] * 255 - 1) < 1e-6):
        return None
    inputs = {"pixels": torch.zeros(2, 3, side, side)}
    write_graph(PixelVectors(encoder.model), inputs, "vectors", folder / IMAGE, pack=halve_all if packed else None)
    about = {"graph": IMAGE, "size": side, "filter": FILTERS[steps["resample"]]}
    return about | {"mean": list(steps["image_mean"]), "std": list(steps["image_std"])}


def _clip_vectors(model: Any) -> Callable[[Tensor], Tensor]:
    """Return a function from ids to the vectors of a ``CLIPModel``, whose texts end with the first end token."""
    end = int(model.config.text_config.eos_token_id)
    end = int(model.config.text_config.vocab_size) - 1 if end == 2 else end  # of files from before transformers 4.31
    return lambda ids: _tensor(model.get_text_features(input_ids=torch.where(ids < 0, end, ids)))


def _tensor(found: Any) -> Tensor:
    """Return the vectors among the outputs of a model, which differ between versions of transformers."""
    return found if isinstance(found, Tensor) else torch.as_tensor(found.pooler_output)
