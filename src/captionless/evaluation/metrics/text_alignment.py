"""Whether painted pictures show what their prompts say, by the cosines of pictures and prompts in a shared space."""

from __future__ import annotations

import torch
from torch import Tensor

from captionless.evaluation.metrics.estimate import Estimate, TooFewError
from captionless.evaluation.metrics.resampling import cluster_mean

CHOICES = 30
"""Prompts to choose among in R-precision; blind choice is right once in 30 times."""

SAME = 1e-5
"""Distance of unit text vectors below which two prompts are one; a text embedded in another batch moves by 1e-6."""


def cosine_gain(images: Tensor, texts: Tensor, owner: Tensor, *, seed: int = 0) -> Estimate:
    """Return how much closer pictures are to their own prompt than to the others: mean cosine less mean cosine.

    The mean over all other prompts is what shuffling prompts among pictures would give on average. 0 means that
    pictures follow their prompts no better than chance; the cosine itself says little, as its zero lies elsewhere in
    every encoder (arXiv:2203.02053).

    Args:
        images: unit vectors of painted pictures, (n, d).
        texts: unit vectors of prompts, (p, d); prompts of one vector count as one.
        owner: index of the prompt that each picture was painted from, (n,).
        seed: of the bootstrap over prompts that gives the range.

    Raises:
        TooFewError: pictures of fewer than 2 different prompts.
    """
    cosines, owner, own = _cosines(images, texts, owner)
    others = (cosines.sum(1) - own) / (cosines.shape[1] - 1)
    return cluster_mean(own - others, owner, seed)


def r_precision(images: Tensor, texts: Tensor, owner: Tensor, choices: int = CHOICES, *, seed: int = 0) -> Estimate:
    """Return how often a picture is closer to its own prompt than to any of ``choices - 1`` others drawn at random.

    R-precision as in AttnGAN (arXiv:1711.10485, section 4), but exact instead of drawn: if L of the P - 1 other
    prompts have a lower cosine, all of the c - 1 drawn ones are among those L with the hypergeometric probability
    ``C(L, c - 1) / C(P - 1, c - 1)``. A tie counts as lost.

    Args:
        images: unit vectors of painted pictures, (n, d).
        texts: unit vectors of prompts, (p, d); prompts of one vector count as one.
        owner: index of the prompt that each picture was painted from, (n,).
        choices: prompts to choose among, the own one included, at least 2; with fewer different prompts, all of them.
        seed: of the bootstrap over prompts that gives the range.

    Raises:
        TooFewError: pictures of fewer than 2 different prompts.
    """
    cosines, owner, own = _cosines(images, texts, owner)
    lower = (cosines < own.unsqueeze(1)).sum(1, keepdim=True)
    others = cosines.shape[1] - 1
    drawn = torch.arange(choice_count(cosines.shape[1], choices) - 1)
    # C(L, k) / C(P - 1, k) = prod_j (L - j) / (P - 1 - j) for j < k; where L < k a factor is 0.
    chance = ((lower - drawn).clamp(min=0).double() / (others - drawn)).prod(1)
    return cluster_mean(chance, owner, seed)


def choice_count(p: int, choices: int = CHOICES) -> int:
    """Return among how many prompts R-precision lets choose when there are ``p`` different ones (`different`).

    Raises:
        TooFewError: fewer than 2 prompts.
    """
    if p < 2:
        raise TooFewError(f"telling prompts apart needs at least 2 different ones, and there are {p}. Give more.")
    return min(p, choices)


def distinct_texts(texts: Tensor) -> tuple[Tensor, Tensor]:
    """Merge prompts of the same vector: a prompt is never a wrong answer to itself.

    Args:
        texts: unit vectors of prompts, (p, d).

    Returns:
        The different vectors (q, d), and for each prompt the index of its vector among them, (p,).
    """
    exact = texts.double()
    alike = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist") < SAME
    first = alike.int().argmax(1)
    kept, index = torch.unique(first, return_inverse=True)
    return texts[kept], index


def _cosines(images: Tensor, texts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosines with all different prompts (n, q), the own prompt's index among them (n,) and its cosine (n,)."""
    texts, index = distinct_texts(texts)
    owner = index[owner]
    choice_count(len(torch.unique(owner)))
    cosines = images.double() @ texts.double().T
    return cosines, owner, cosines.gather(1, owner.unsqueeze(1)).squeeze(1)
