"""Measure text alignment by cosine-similarity gain and R-precision in the shared space of a dual encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import Estimate, TooFewError, cluster_mean

CHOICES = 30
"""Number of candidate prompts in R-precision; a random choice is right once in 30 times."""


def cosine_gain(images: Tensor, texts: Tensor, owner: Tensor, *, seed: int = 0) -> Estimate:
    """Return the mean cosine similarity of images to their own prompt, minus their mean similarity to other prompts.

    The second term is the expected similarity for shuffled prompts, so a gain of 0 means that images follow their
    prompts no better than chance. The similarity alone is not meaningful, because its baseline differs between encoders
    (arXiv:2203.02053).

    Args:
        images: unit vectors of generated images, (n, d).
        texts: unit vectors of prompts, (p, d); prompts with the same vector count as one prompt.
        owner: index of each image's prompt, (n,).
        seed: seed of the bootstrap over prompts for the 95% range.

    Raises:
        TooFewError: the images have fewer than 2 different prompts.
    """
    cosines, owner, own = _cosines(images, texts, owner)
    others = (cosines.sum(1) - own) / (cosines.shape[1] - 1)
    return cluster_mean(own - others, owner, seed)


def r_precision(images: Tensor, texts: Tensor, owner: Tensor, choices: int = CHOICES, *, seed: int = 0) -> Estimate:
    """Return how often an image is closer to its own prompt than to ``choices - 1`` randomly drawn other prompts.

    This is R-precision as in AttnGAN (arXiv:1711.10485, section 4), computed exactly instead of by sampling. If L of
    the P - 1 other prompts have a lower cosine similarity, all c - 1 drawn prompts are among these L with the
    hypergeometric probability ``C(L, c - 1) / C(P - 1, c - 1)``. A tie counts as a miss.

    Args:
        images: unit vectors of generated images, (n, d).
        texts: unit vectors of prompts, (p, d); prompts with the same vector count as one prompt.
        owner: index of each image's prompt, (n,).
        choices: number of candidate prompts including the image's own, at least 2; limited to the number of prompts.
        seed: seed of the bootstrap over prompts for the 95% range.

    Raises:
        TooFewError: the images have fewer than 2 different prompts.
    """
    cosines, owner, own = _cosines(images, texts, owner)
    lower = (cosines < own.unsqueeze(1)).sum(1, keepdim=True)
    others = cosines.shape[1] - 1
    drawn = torch.arange(choice_count(cosines.shape[1], choices) - 1)
    # C(L, k) / C(P - 1, k) = prod_j (L - j) / (P - 1 - j) for j < k; if L < k, a factor is 0.
    chance = ((lower - drawn).clamp(min=0).double() / (others - drawn)).prod(1)
    return cluster_mean(chance, owner, seed)


def choice_count(p: int, choices: int = CHOICES) -> int:
    """Return the number of candidate prompts in R-precision for ``p`` distinct prompts (see `distinct_texts`).

    Raises:
        TooFewError: there are fewer than 2 prompts.
    """
    if p < 2:
        raise TooFewError(f"text alignment needs at least 2 different prompts, but there are {p}.")
    return min(p, choices)


def distinct_texts(texts: Tensor, tolerance: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Merge prompts with the same vector, so that a prompt does not compete with itself.

    Args:
        texts: unit vectors of prompts, (p, d).
        tolerance: distance below which vectors count as equal; rounding at different batch sizes changes them by 1e-6.

    Returns:
        The distinct vectors (q, d), and the index of each prompt's vector among them, (p,).
    """
    exact = texts.double()
    alike = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist") < tolerance
    kept, index = torch.unique(alike.int().argmax(1), return_inverse=True)
    return texts[kept], index


def _cosines(images: Tensor, texts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosines with the distinct prompts (n, q), the index of the own prompt (n,) and its cosine (n,)."""
    texts, index = distinct_texts(texts)
    owner = index[owner]
    choice_count(len(torch.unique(owner)))
    cosines = images.double() @ texts.double().T
    return cosines, owner, cosines.gather(1, owner.unsqueeze(1)).squeeze(1)
