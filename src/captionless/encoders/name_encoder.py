"""Load an encoder that was learned from the names of a folder's images (see ``captionless.encoders.learning``).

Its folder has the files of any other encoder: ``config.json``, ``preprocessor_config.json``, ``tokenizer.json`` (word
pieces and their weights), ``vocabulary.json`` and ``model.safetensors``, whose text side has the prefix ``text_``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from captionless.encoders.digest import Digests
from captionless.encoders.dual_encoder import Encoder, checked_side
from captionless.encoders.hub import ENCODER
from captionless.encoders.loading import check_files, load_image_processor
from captionless.encoders.model_errors import encoder_errors, foreign, loading_errors, read_settings
from captionless.encoders.name_text import piece_matrix
from captionless.encoders.vocabulary import EncoderVocabulary
from captionless.errors import CaptionlessError
from captionless.tensor_files import read_tensors

LEVELS = (7, 15, 21)
"""Blocks of the image tower whose outputs are used; they have 40, 112 and 320 channels."""
COLOUR_SIDE = 32
"""Side of the downsampled image that is a feature of its own: colour and layout, which the tower's means lose."""
_TEXT = "text_"
_HEAD = ("shift", "projection", "centres", "weights", "gamma")


class NameImageSide(nn.Module):
    """Image features, and kernel regression from them to text vectors.

    The vector of an image with features ``x`` is the sum of ``exp(-gamma |z - c|^2) w`` over the training images with
    projected features ``c`` and weights ``w``, where ``z`` is the projection of ``x`` (kernel ridge regression with a
    Gaussian kernel; Saunders et al. 1998).

    Args:
        tower: the EfficientNet tower of the bundled encoder, in eval mode.
        head: ``shift`` (f), ``projection`` (f, k), ``centres`` (n, k), ``weights`` (n, width) and ``gamma`` (1).
    """

    def __init__(self, tower: nn.Module, head: dict[str, Tensor]) -> None:
        super().__init__()
        self.tower = tower
        for name, tensor in head.items():
            self.register_buffer(name, tensor)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Return the vectors of preprocessed images (n, 3, side, side), (n, width), not normalised."""
        return self.regress(torch.cat(image_features(self.tower, pixel_values), dim=1))

    def regress(self, features: Tensor) -> Tensor:
        """Return the vectors for image features (n, f), (n, width)."""
        part = dict(self.named_buffers(recurse=False))
        z = (features - part["shift"]) @ part["projection"]
        return gaussian_kernel(z, part["centres"], part["gamma"]) @ part["weights"]


def image_features(tower: nn.Module, pixel_values: Tensor) -> list[Tensor]:
    """Return features of preprocessed images in blocks (n, f_i), the last of which is the downsampled image.

    The others, one for each of `LEVELS` at full and at half resolution, have the mean, maximum and standard deviation
    of each channel over all positions.
    """
    blocks = []
    for pixels in (pixel_values, nn.functional.avg_pool2d(pixel_values, 2)):
        states = tower(pixels, output_hidden_states=True).hidden_states
        for one in (states[level].flatten(2) for level in LEVELS):
            blocks.append(torch.cat([one.mean(2), one.amax(2), one.std(2)], 1))
    small = nn.functional.adaptive_avg_pool2d(pixel_values, COLOUR_SIDE)
    return [*blocks, small.flatten(1)]


def gaussian_kernel(a: Tensor, b: Tensor, gamma: Tensor) -> Tensor:
    """Return ``exp(-gamma |a_i - b_j|^2)`` for the rows of (n, k) and (m, k), shape (n, m)."""
    return torch.exp(-gamma * torch.cdist(a, b).square())


@dataclass(frozen=True)
class NameText:
    """The text side: texts of any length, as sums of the vectors of their pieces; see ``TextSide``."""

    pieces: Mapping[str, float]  # weight of each piece
    projection: Tensor = field(repr=False)  # (pieces, width)
    shift: Tensor = field(repr=False)  # of the mean text, (width,)
    limit: int = 1_000_000
    special: int = 0

    def count(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts, (n, width), not normalised."""
        return piece_matrix(texts, self.pieces) @ self.projection - self.shift


class NameEncoder(Encoder):
    """An encoder learned from names; texts need neither transformers nor the image tower."""

    def checked(self) -> NameEncoder:
        """Return this encoder; raise if it was written by another version, or if its files are damaged."""
        if self._config.get("format") != 1:
            raise CaptionlessError(
                f"the encoder {self.name} was learned by another version of captionless. Learn it again with "
                "`captionless encoder`, or use the version that made it."
            )
        _ = self.text, self.vocabulary, self.width, self.image_size, self.logit_scale
        return self

    @cached_property
    def text(self) -> NameText:
        """The text side."""
        rules, tensors = read_settings(self.folder / "tokenizer.json"), self._tensors
        with foreign():
            stored = rules["pieces"]
            pieces = {str(piece): float(stored[piece]) for piece in stored}
            projection, shift = tensors["text_projection"], tensors["text_shift"]
        return NameText(pieces, projection, shift)

    @cached_property
    def vocabulary(self) -> EncoderVocabulary | None:
        """The words of the names; those of similar spelling share pieces, and so have similar vectors."""
        found = super().vocabulary
        return found and replace(found, by_spelling=True)

    @cached_property
    def width(self) -> int:
        """Dimension of the shared space."""
        tensors = self._tensors
        with foreign():
            return int(tensors["weights"].shape[1])

    @cached_property
    def image_size(self) -> int:
        """Side length in pixels of the encoder's square input images."""
        config = self._config
        with foreign():
            side = int(config["vision_config"]["image_size"])
        return checked_side(self.name, side)

    @cached_property
    def logit_scale(self) -> float:
        """Inverse temperature, fitted to held-out images."""
        config = self._config
        with foreign():
            return float(config["logit_scale"])

    @cached_property
    def _network(self) -> tuple[Any, Any]:
        from transformers import EfficientNetConfig, EfficientNetModel

        weights = {name.removeprefix("tower."): one for name, one in self._tensors.items() if name.startswith("tower.")}
        tensors, settings = self._tensors, self._config
        with loading_errors(self.name, ENCODER, self.folder):
            check_files(self.folder)
            with foreign():
                config = EfficientNetConfig(**settings["vision_config"])
                with torch.device("meta"):  # other shapes are noticed before they take memory
                    EfficientNetModel(config).load_state_dict(weights, strict=False)
                tower = EfficientNetModel(config)
                tower.load_state_dict(weights, strict=False)  # counters of batches are not stored
                head = {name: tensors[name] for name in _HEAD}
            model = NameImageSide(tower, head).eval().requires_grad_(False).to(self.device)
            return model, load_image_processor(self.folder)

    @cached_property
    def _digests(self) -> Digests:
        image = hashlib.sha256()
        for name, tensor in sorted(self._tensors.items()):
            if not name.startswith(_TEXT):
                image.update(f"{name} {tuple(tensor.shape)}\n".encode() + tensor.contiguous().numpy().tobytes())
        with encoder_errors(self.name, ENCODER, self.folder):
            steps = read_settings(self.folder / "preprocessor_config.json")
        image.update(json.dumps([self._config["vision_config"], steps], sort_keys=True).encode())
        return Digests(image.hexdigest(), image.hexdigest())

    @cached_property
    def _config(self) -> dict[str, Any]:
        return read_settings(self.folder / "config.json")

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor.float() for name, tensor in read_tensors(self.folder / "model.safetensors").items()}
