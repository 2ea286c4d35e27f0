"""A stand-in for CLIP where its weights are not at hand: the bundled encoder, moved to CLIP's geometry.

CLIP's image vectors have cosines of 0.5 to 0.9 with each other, of about 0.25 with a matching text and 0.19 with
others, and it was trained with a temperature of 0.01. The bundled encoder's are 0.65 and 0.1, and 0.048. Two more
coordinates move its image vectors v and text vectors t there:

    image: [v, a, 0] / |...|        text: [t, b c, b sqrt(1 - c^2)] / |...|

The stand-in knows flowers only, and nothing that is measured with it is a statement about CLIP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from captionless.encoders import BUNDLED, Encoder, load_encoder

NAME = "stand-in"
A, B, C = 2**0.5, 5.2, 0.223
"""Common part of all images, common part of all texts, and the cosine of the two."""


def clip_geometry(vectors: Tensor, first: float, second: float) -> Tensor:
    """Put two constants in the place of the last two coordinates of unit vectors (n, d); return unit vectors (n, d).

    The width stays that of CLIP ViT-B/32, 512, of which two coordinates carry next to nothing.
    """
    own = F.normalize(vectors[:, :-2], dim=1)
    constants = torch.tensor([first, second]).expand(len(own), 2)
    return F.normalize(torch.cat([own, constants], dim=1), dim=1)


class StandIn(Encoder):
    """The bundled encoder in CLIP's geometry. Models trained with its vectors are bound to the bundled encoder."""

    vocabulary = None  # as CLIP
    logit_scale = 100.0

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return unit image vectors, (n, 512)."""
        return clip_geometry(super().encode_images(images), A, 0.0)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit text vectors, (n, 512)."""
        return clip_geometry(super().encode_texts(texts), B * C, B * (1 - C**2) ** 0.5)

    @property
    def digest(self) -> str:
        """A hash of its own, under which the cache keeps its vectors."""
        return hashlib.sha256(f"{super().digest} {A} {B} {C}".encode()).hexdigest()

    @property
    def digests(self) -> frozenset[str]:
        """Also those of the bundled encoder, to which the models are bound."""
        return super().digests | {self.digest}


def load_stand_in(device: str = "cpu") -> StandIn:
    """Load the bundled encoder in CLIP's geometry."""
    bundled = load_encoder(BUNDLED, device)
    known: dict[str, Any] = {field.name: getattr(bundled, field.name) for field in fields(Encoder)}
    return StandIn(**known)
