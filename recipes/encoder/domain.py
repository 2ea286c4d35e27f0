"""Is a picture one the encoder knows? References and threshold from training photographs alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NEIGHBOURS = 5
REFERENCES = 250
QUANTILE = 0.15
"""The threshold is the score that this share of the left-out training photographs falls below."""


def spread_references(vectors: Tensor, count: int = REFERENCES, seed: int = 0) -> list[int]:
    """Rows of a random choice of unit vectors (n, d), at most half of them."""
    count = min(count, len(vectors) // 2)
    return sorted(np.random.default_rng(seed).choice(len(vectors), count, replace=False).tolist())


def domain_scores(vectors: Tensor, reference: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Mean cosine of each unit vector (n, d) to its nearest references, (n,)."""
    return (vectors @ reference.float().T).topk(neighbours, dim=1).values.mean(1)


def choose_references(vectors: Tensor) -> tuple[Tensor, float]:
    """Reference vectors, and the threshold from the training photographs that are no references."""
    rows = spread_references(vectors)
    reference = vectors[rows]
    others = torch.ones(len(vectors), dtype=torch.bool)
    others[rows] = False
    return reference, torch.quantile(domain_scores(vectors[others], reference), QUANTILE).item()
