"""Figures of merit for an encoder: recall, zero-shot kind and petal colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from photographs import Photograph
from sentences import GROUP, KINDS, PETALS, article, plural
from torch import Tensor
from torch.nn import functional as F

KIND_PROMPTS: tuple[Callable[[str], str], ...] = (
    lambda kind: f"a photo of {article(kind)}",
    lambda kind: f"{article(kind)} flower",
    plural,
)
PETAL_PROMPTS: tuple[Callable[[str], str], ...] = (
    lambda colour: f"{article(colour)} flower",
    lambda colour: f"a flower with {colour} petals",
    lambda colour: f"{colour} flowers",
)

Words = Callable[[Sequence[str]], Tensor]


def recall(images: Tensor, captions: Tensor, ranks: Sequence[int] = (1, 5, 10)) -> list[float]:
    """Return the share of captions whose own image is among the ``rank`` nearest images."""
    order = (captions @ images.T).argsort(dim=1, descending=True)
    place = (order == torch.arange(len(images))[:, None]).float().argmax(1)
    return [(place < rank).float().mean().item() for rank in ranks]


def prompts(classes: Sequence[str], wordings: Sequence[Callable[[str], str]], words: Words) -> Tensor:
    """Return one unit vector per class: the mean over wordings."""
    vectors = torch.stack([words([wording(name) for name in classes]) for wording in wordings])
    return F.normalize(vectors.mean(0), dim=1)


def zero_shot(images: Tensor, labels: Sequence[str | None], names: Sequence[str], vectors: Tensor) -> float:
    """Return the share of labelled images whose nearest class vector is their own."""
    rows = [k for k, label in enumerate(labels) if label in names]
    guesses = (images[rows] @ vectors.T).argmax(1).tolist()
    return sum(names[g] == labels[k] for g, k in zip(guesses, rows, strict=True)) / len(rows)


def kind_labels(records: Sequence[Photograph]) -> list[str | None]:
    """Return the flower in each photograph, or None outside the five kinds."""
    return [record.flower if record.flower in KINDS else None for record in records]


def petal_labels(records: Sequence[Photograph]) -> list[str | None]:
    """Return the petal colour group of each photograph, or None outside the six."""
    return [GROUP.get(record.petals) for record in records]


def figures(records: Sequence[Photograph], images: Tensor, words: Words) -> dict[str, float]:
    """Compute all figures from unit image vectors (n, d) and a function from texts to unit vectors."""
    captions = words([record.caption for record in records])
    at = recall(images, captions)
    return {
        "recall@1": at[0],
        "recall@5": at[1],
        "recall@10": at[2],
        "kind": zero_shot(images, kind_labels(records), KINDS, prompts(KINDS, KIND_PROMPTS, words)),
        "petals": zero_shot(images, petal_labels(records), PETALS, prompts(PETALS, PETAL_PROMPTS, words)),
        "cosine": (images * captions).sum(1).mean().item(),
        "gap": (images.mean(0) - captions.mean(0)).norm().item(),
    }
