"""Encode images and texts as unit vectors of one space, and keep the image vectors of a folder.

torch and transformers are imported when an encoder is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captionless._lazy import lazy_names

if TYPE_CHECKING:
    from captionless.encoders.cache import VectorCache, cache_folder
    from captionless.encoders.dual_encoder import Encoder, PromptCut, choose_encoder, in_domain_score, load_encoder
    from captionless.encoders.embeddings import EmbeddedImages, ImageEncoder, embed
    from captionless.encoders.features import Features, load_features, own_features
    from captionless.encoders.hub import BUNDLED, CLIP
    from captionless.encoders.table import read_vectors, write_vectors

_HOMES = {
    "BUNDLED": "hub",
    "CLIP": "hub",
    "EmbeddedImages": "embeddings",
    "Encoder": "dual_encoder",
    "Features": "features",
    "ImageEncoder": "embeddings",
    "PromptCut": "dual_encoder",
    "VectorCache": "cache",
    "cache_folder": "cache",
    "choose_encoder": "dual_encoder",
    "embed": "embeddings",
    "in_domain_score": "dual_encoder",
    "load_encoder": "dual_encoder",
    "load_features": "features",
    "own_features": "features",
    "read_vectors": "table",
    "write_vectors": "table",
}

__all__ = [
    "BUNDLED",
    "CLIP",
    "EmbeddedImages",
    "Encoder",
    "Features",
    "ImageEncoder",
    "PromptCut",
    "VectorCache",
    "cache_folder",
    "choose_encoder",
    "embed",
    "in_domain_score",
    "load_encoder",
    "load_features",
    "own_features",
    "read_vectors",
    "write_vectors",
]


__getattr__ = lazy_names(__name__, _HOMES)
