"""Load feature extractors for comparing images: the evaluated model's own encoder, or an independent image model.

A diffusion model is fitted to the encoder it was trained with, so only features of other models are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captionless.encoders.dual_encoder import Encoder, batches, encoder_batch_size, load_encoder
from captionless.encoders.hub import IMAGE_MODEL, find_encoder_folder
from captionless.encoders.loading import load_encoder_network, model_inputs
from captionless.encoders.model_errors import foreign, loading_errors
from captionless.errors import CaptionlessError
from captionless.models.blocks import scale_condition
from captionless.progress import Progress


@dataclass(frozen=True)
class Features:
    """A feature extractor for images and, if it is a dual encoder, for texts."""

    name: str  # as given by the user
    independent: bool  # whether the evaluated model was trained without it
    encode_images: Callable[[Sequence[Image.Image]], Tensor] = field(repr=False)  # returns float32 (n, d) on the CPU
    encode_texts: Callable[[Sequence[str]], Tensor] | None = field(default=None, repr=False)  # in the same space


def own_features(encoder: Encoder, *, independent: bool = False) -> Features:
    """Return a feature extractor that uses a dual encoder, usually the one the evaluated model was trained with.

    Its unit vectors are scaled to length ``sqrt(d)``, so that their elements are about 1. The kernel of KID,
    ``(x . y / d + 1)^3``, expects this scale and is almost constant on unit vectors.
    """
    return Features(
        encoder.name,
        independent,
        lambda images: scale_condition(encoder.encode_images(images)),
        lambda texts: scale_condition(encoder.encode_texts(texts)),
    )


def load_features(
    name: str | Path, device: str = "cpu", *, own: Collection[str] = (), progress: Progress | None = None
) -> Features:
    """Load a transformers image model as a feature extractor, from safetensors only and without remote code.

    A dual encoder returns image and text vectors as in `own_features`. Any other image model returns its
    ``pooler_output`` unchanged or, if the pooler has no weights, the mean of its last hidden state over tokens or
    positions.

    Args:
        name: a hub id (``"facebook/dinov2-small"``), a local folder, or ``"bundled"``.
        device: the torch device to compute on.
        own: content hashes of the encoders that the evaluated model was trained with; these encoders do not count as
            independent, whatever their name.
        progress: receives a message with the download size before a download.

    Raises:
        CaptionlessError: the model is not found, incomplete, damaged or not an image model, or its features are not
            finite or not deterministic.
    """
    name = str(name)
    folder = find_encoder_folder(name, IMAGE_MODEL, progress)
    with loading_errors(name, IMAGE_MODEL, folder):
        inputs, model_type = model_inputs(folder)
        if "texts" in inputs:
            encoder = load_encoder(name, device)
            return own_features(encoder, independent=encoder.digests.isdisjoint(own))
        if not inputs:
            raise CaptionlessError(
                f"{name} is a model of type {model_type!r}, which does not accept images. {IMAGE_MODEL.advice}"
            )
        model = _ImageModel(name, *load_encoder_network(name, IMAGE_MODEL, folder, device), device)
        model.check()
    return Features(name, True, model.encode)


@dataclass(frozen=True, eq=False)
class _ImageModel:
    """A transformers model that accepts only images; ``pools`` is True if its pooler has weights."""

    name: str
    network: Any
    processor: Any
    pools: bool
    device: str

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode images of any size and mode; return float32 (n, d) on the CPU, not normalised."""
        vectors = torch.cat([self._encode(batch) for batch in batches(images, encoder_batch_size(self.device))])
        if len(vectors) != len(images) or not bool(vectors.isfinite().all()):
            raise CaptionlessError(
                f"{self.name} returned unusable features (shape {tuple(vectors.shape)}, or not finite). Its weights "
                "may be damaged: download the model again, or use another model."
            )
        return vectors

    def check(self) -> None:
        """Raise if the features are random, as in ViT-MAE, which masks a random part of each image."""
        probe = Image.linear_gradient("L")
        with foreign(), torch.no_grad():
            self._outputs([probe])
        if not torch.allclose(self.encode([probe]), self.encode([probe]), rtol=1e-3, atol=1e-5):
            raise CaptionlessError(
                f"{self.name} returns different features for the same image on each call, so images cannot be compared "
                f"with it. {IMAGE_MODEL.advice}"
            )

    def _outputs(self, images: Sequence[Image.Image]) -> Any:
        inputs = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        return self.network(pixel_values=inputs["pixel_values"].to(self.device))

    def _encode(self, images: Sequence[Image.Image]) -> Tensor:
        outputs = self._outputs(images)
        pooled, hidden = outputs.get("pooler_output"), outputs.get("last_hidden_state")
        if self.pools and pooled is not None:
            return torch.as_tensor(pooled).flatten(1).float().cpu()
        if hidden is None or hidden.ndim not in (3, 4):
            raise CaptionlessError(f"{self.name} returns {', '.join(outputs)} but no features. {IMAGE_MODEL.advice}")
        return torch.as_tensor(hidden).mean(1 if hidden.ndim == 3 else (2, 3)).float().cpu()
