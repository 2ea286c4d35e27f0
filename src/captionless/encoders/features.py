"""Load models that turn images into feature vectors for comparing them: the model's own encoder, or an independent one.

A diffusion model that was trained with an encoder fits that encoder; only features from elsewhere are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captionless.encoders.dual_encoder import Encoder, batches, image_batch, load_encoder
from captionless.encoders.hub import IMAGE_MODEL, find_model
from captionless.encoders.loading import load_network, loading, require_complete, what_it_reads
from captionless.errors import CaptionlessError
from captionless.models.blocks import scaled
from captionless.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

_POOLER = "pooler."


@dataclass(frozen=True)
class Features:
    """A mapping from images, and with a dual encoder from texts, to feature vectors.

    Args:
        name: the name given by the user.
        independent: whether it was not used to train the evaluated model.
        encode_images: images of any size and mode → float32 (n, d) on the CPU.
        encode_texts: texts → vectors in the same space, (n, d); None for a model that reads images only.
    """

    name: str
    independent: bool
    encode_images: Callable[[Sequence[Image]], Tensor] = field(repr=False)
    encode_texts: Callable[[Sequence[str]], Tensor] | None = field(default=None, repr=False)


def own_features(encoder: Encoder) -> Features:
    """Return the features of the encoder that the evaluated model was trained with; they are not independent."""
    return _encoder_features(encoder, encoder.name, independent=False)


def load_features(
    name: str | Path, device: str = "cpu", *, own: Collection[str] = (), progress: Progress | None = None
) -> Features:
    """Load a transformers image model as features; weights from safetensors only, without remote code.

    A dual encoder gives its image and text vectors, with length ``sqrt(d)``. Any other image model gives its
    ``pooler_output`` as it is, or, without pooler weights, the mean of its last hidden state over tokens or positions.

    Args:
        name: a hub id (``"facebook/dinov2-small"``), a local folder, or ``"bundled"``.
        device: a torch device to compute on.
        own: content hashes of the encoders that the evaluated model was trained with; they do not count as
            independent, whatever they are called.
        progress: receives one line with the size before a download.

    Raises:
        CaptionlessError: the model is not found, incomplete, damaged or not for images, or its features are not finite
            or not deterministic.
    """
    name = str(name)
    folder = find_model(name, IMAGE_MODEL, progress)
    with loading(name, IMAGE_MODEL, folder):
        reads = what_it_reads(folder)
        if reads.both:
            encoder = load_encoder(str(folder), device)
            return _encoder_features(encoder, name, encoder.digests.isdisjoint(own))
        if not reads.images:
            raise CaptionlessError(
                f"{name} is a model of type {reads.model_type!r}, which reads no images. {IMAGE_MODEL.expected}"
            )
        network, processor, missing = load_network(folder, device)
    # A classifier's file has no weights for the pooler, and transformers fills it with random numbers.
    require_complete(name, IMAGE_MODEL, [key for key in missing if not key.startswith(_POOLER)])
    pools = not any(key.startswith(_POOLER) for key in missing)
    model = _ImageModel(name, network, processor, device, pools)
    model.check()
    return Features(name, True, model.encode)


def _encoder_features(encoder: Encoder, name: str, independent: bool) -> Features:
    """Scale a dual encoder's unit vectors to the length ``sqrt(d)``, with elements of about 1.

    KID's kernel ``(x . y / d + 1)^3`` expects that scale; on unit vectors it is almost constant.
    """
    return Features(
        name,
        independent,
        lambda images: scaled(encoder.encode_images(images)),
        lambda texts: scaled(encoder.encode_texts(texts)),
    )


@dataclass(frozen=True, eq=False)
class _ImageModel:
    """A transformers model that reads images only; ``pools`` says whether its pooler has weights."""

    name: str
    network: Any
    processor: Any
    device: str
    pools: bool

    @torch.no_grad()
    def encode(self, images: Sequence[Image]) -> Tensor:
        """Encode images of any size and mode; return float32 (n, d) on the CPU, not normalised."""
        if not images:
            return self.encode([_test_image()])[:0]
        return torch.cat([self._encode(batch) for batch in batches(images, image_batch(self.device))])

    def check(self) -> None:
        """Raise if the model cannot read an image, or is random (ViT-MAE hides a random part of each image)."""
        try:
            first, second = (self.encode([_test_image()]) for _ in range(2))
        except CaptionlessError:
            raise
        except Exception as error:  # the model may need more inputs than images, or its processor fail
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CaptionlessError(f"{self.name} cannot read an image ({reason}). {IMAGE_MODEL.expected}") from error
        if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
            raise CaptionlessError(
                f"{self.name} gives different features for the same image on each call, so they cannot be compared. "
                f"{IMAGE_MODEL.expected}"
            )

    def _encode(self, images: Sequence[Image]) -> Tensor:
        inputs = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        outputs = self.network(pixel_values=inputs["pixel_values"].to(self.device))
        vectors = _pooled(outputs, self.pools)
        if vectors is None:
            raise CaptionlessError(f"{self.name} gives {', '.join(outputs)} but no features. {IMAGE_MODEL.expected}")
        vectors = vectors.float().cpu()
        if len(vectors) != len(images) or not bool(vectors.isfinite().all()):
            raise CaptionlessError(
                f"{self.name} gave unusable features (shape {tuple(vectors.shape)}, or not finite). Its weights may be "
                "damaged: download it again, or use another."
            )
        return vectors


def _pooled(outputs: Mapping[str, Any], pools: bool) -> Tensor | None:
    """Return one vector per image, (n, d), from a model's outputs; None if it has neither of the two known ones."""
    pooled, hidden = outputs.get("pooler_output"), outputs.get("last_hidden_state")
    if pools and pooled is not None:
        return torch.as_tensor(pooled).flatten(1)
    if hidden is None or hidden.ndim not in (3, 4):
        return None
    return torch.as_tensor(hidden).mean(1 if hidden.ndim == 3 else (2, 3))


def _test_image() -> Image:
    """Return an image with colour gradients, so that every part of it is different."""
    from PIL import Image

    ramp = Image.linear_gradient("L")
    return Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))).resize((64, 64))
