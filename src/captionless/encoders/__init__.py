"""Encode images and texts as unit vectors in a shared space, and cache the image vectors of a folder.

transformers is imported only when an encoder is loaded.
"""

from captionless.encoders.cache import VectorCache, cache_folder
from captionless.encoders.choice import choose_encoder, in_domain_score
from captionless.encoders.dual_encoder import Encoder, PromptCut, load_encoder
from captionless.encoders.embeddings import EmbeddedImages, embed
from captionless.encoders.features import Features, load_features, own_features
from captionless.encoders.hub import BUNDLED, CLIP
from captionless.encoders.learning import NameQuality, learn_encoder
from captionless.encoders.shards import embed_shards
from captionless.encoders.vector_csv import match_vectors, read_vectors, write_vectors

__all__ = [
    "BUNDLED",
    "CLIP",
    "EmbeddedImages",
    "Encoder",
    "Features",
    "NameQuality",
    "PromptCut",
    "VectorCache",
    "cache_folder",
    "choose_encoder",
    "embed",
    "embed_shards",
    "in_domain_score",
    "learn_encoder",
    "load_encoder",
    "load_features",
    "match_vectors",
    "own_features",
    "read_vectors",
    "write_vectors",
]
