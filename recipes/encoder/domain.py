"""The in-domain score: reference vectors and threshold, computed from training photographs alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NEIGHBOURS = 5
REFERENCES = 250
QUANTILE = 0.15
"""The share of the left-out training photographs whose score is below the threshold."""


def spread_references(vectors: Tensor, count: int = REFERENCES, seed: int = 0) -> list[int]:
    """Choose rows of unit vectors (n, d) at random, at most half of them."""
    count = min(count, len(vectors) // 2)
    return sorted(np.random.default_rng(seed).choice(len(vectors), count, replace=False).tolist())


def domain_scores(vectors: Tensor, reference: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Return the mean cosine of each unit vector (n, d) to its nearest references, (n,)."""
    return (vectors @ reference.float().T).topk(neighbours, dim=1).values.mean(1)


def choose_references(vectors: Tensor) -> tuple[Tensor, float]:
    """Return reference vectors, and the threshold from the training photographs that are not references."""
    rows = spread_references(vectors)
    reference = vectors[rows]
    others = torch.ones(len(vectors), dtype=torch.bool)
    others[rows] = False
    return reference, torch.quantile(domain_scores(vectors[others], reference), QUANTILE).item()
