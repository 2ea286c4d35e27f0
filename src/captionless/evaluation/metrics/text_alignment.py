"""Measure whether images follow their prompts: cosine gain and R-precision in the shared space of a dual encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import Estimate, TooFewError, cluster_mean

CHOICES = 30
"""Prompts to choose among in R-precision; a random choice is right once in 30 times."""


def cosine_gain(images: Tensor, texts: Tensor, owner: Tensor, *, seed: int = 0) -> Estimate:
    """Return the mean cosine of images with their own prompt, minus that with all other prompts.

    The second term is what shuffled prompts would give on average, so 0 means that images follow their prompts no
    better than chance. The cosine alone says little: each encoder has another zero (arXiv:2203.02053).

    Args:
        images: unit vectors of generated images, (n, d).
        texts: unit vectors of prompts, (p, d); prompts of the same vector count as one.
        owner: index of each image's prompt, (n,).
        seed: seed of the bootstrap over prompts that gives the range.

    Raises:
        TooFewError: images of fewer than 2 different prompts.
    """
    cosines, owner, own = _cosines(images, texts, owner)
    others = (cosines.sum(1) - own) / (cosines.shape[1] - 1)
    return cluster_mean(own - others, owner, seed)


def r_precision(images: Tensor, texts: Tensor, owner: Tensor, choices: int = CHOICES, *, seed: int = 0) -> Estimate:
    """Return how often an image is closer to its own prompt than to ``choices - 1`` others drawn at random.

    R-precision as in AttnGAN (arXiv:1711.10485, section 4), computed exactly instead of by drawing: if L of the P - 1
    other prompts have a lower cosine, all c - 1 drawn ones are among those L with the hypergeometric probability
    ``C(L, c - 1) / C(P - 1, c - 1)``. A tie counts as a miss.

    Args:
        images: unit vectors of generated images, (n, d).
        texts: unit vectors of prompts, (p, d); prompts of the same vector count as one.
        owner: index of each image's prompt, (n,).
        choices: prompts to choose among, the own one included, at least 2; at most as many as there are.
        seed: seed of the bootstrap over prompts that gives the range.

    Raises:
        TooFewError: images of fewer than 2 different prompts.
    """
    cosines, owner, own = _cosines(images, texts, owner)
    lower = (cosines < own.unsqueeze(1)).sum(1, keepdim=True)
    others = cosines.shape[1] - 1
    drawn = torch.arange(choice_count(cosines.shape[1], choices) - 1)
    # C(L, k) / C(P - 1, k) = prod_j (L - j) / (P - 1 - j) for j < k; where L < k a factor is 0.
    chance = ((lower - drawn).clamp(min=0).double() / (others - drawn)).prod(1)
    return cluster_mean(chance, owner, seed)


def choice_count(p: int, choices: int = CHOICES) -> int:
    """Return the number of prompts that R-precision chooses among when there are ``p`` `distinct_texts`.

    Raises:
        TooFewError: fewer than 2 prompts.
    """
    if p < 2:
        raise TooFewError(f"text alignment needs at least 2 different prompts, and there are {p}.")
    return min(p, choices)


def distinct_texts(texts: Tensor, tolerance: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Merge prompts of the same vector, so that a prompt is never a wrong answer to itself.

    Args:
        texts: unit vectors of prompts, (p, d).
        tolerance: distance below which two vectors count as equal; rounding in other batch sizes moves them by 1e-6.

    Returns:
        The distinct vectors (q, d), and for each prompt the index of its vector among them, (p,).
    """
    exact = texts.double()
    alike = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist") < tolerance
    kept, index = torch.unique(alike.int().argmax(1), return_inverse=True)
    return texts[kept], index


def _cosines(images: Tensor, texts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosines with the distinct prompts (n, q), the own prompt's index among them (n,) and its cosine (n,)."""
    texts, index = distinct_texts(texts)
    owner = index[owner]
    choice_count(len(torch.unique(owner)))
    cosines = images.double() @ texts.double().T
    return cosines, owner, cosines.gather(1, owner.unsqueeze(1)).squeeze(1)
