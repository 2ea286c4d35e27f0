"""Figures of merit for an encoder: recall, and zero-shot accuracy by kind, petal colour and every attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from photographs import Photograph
from sentences import ATTRIBUTES, GROUP, KINDS, PETALS, article, plural
from stages import STAGE, stages
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


def attribute_figures(records: Sequence[Photograph], images: Tensor, words: Words) -> dict[str, float]:
    """Return the zero-shot accuracy of each attribute of the records, and of the stage that the captions tell.

    The classes are those that occur, each named by all its wordings. Most flowers are open, so that the stage has a
    second figure in which every stage counts the same.
    """
    found = {}
    for attribute in (*ATTRIBUTES, STAGE):
        labels = [attribute.value(record) for record in records]
        names = sorted({label for label in labels if label is not None})
        vectors = F.normalize(torch.stack([words(list(attribute.wordings(name))).mean(0) for name in names]), dim=1)
        found[f"attribute {attribute.name}"] = zero_shot(images, labels, names, vectors)
        if attribute is STAGE:
            each = [zero_shot(images, [x if x == name else None for x in labels], names, vectors) for name in names]
            found["attribute stage, mean of stages"] = sum(each) / len(each)
    return found


def precision(scores: Tensor, right: Tensor) -> float:
    """Return the average precision of a ranking by ``scores`` (n,) for the rows where ``right`` (n,) is true."""
    hits = right[scores.argsort(descending=True)].float()
    return ((hits.cumsum(0) / torch.arange(1, len(hits) + 1) * hits).sum() / hits.sum()).item()


STAGE_PROMPTS = (
    ("a dandelion seed head", "dandelion", "seed head", 12),
    ("a dandelion clock", "dandelion", "seed head", 12),
    ("a blowball", "dandelion", "seed head", 12),
    ("a red rose bud", "rose", "bud", 8),
    ("a rose bud", "rose", "bud", 8),
    ("a closed tulip", "tulip", "bud", 8),
)
"""Prompt, the flower and stage it means, and how many of the nearest photographs are looked at."""


def stage_figures(records: Sequence[Photograph], images: Tensor, words: Words) -> dict[str, str]:
    """Return how many of the photographs nearest to some prompts show the stage, and the ranking's precision."""
    found = {}
    for text, kind, name, count in STAGE_PROMPTS:
        right = torch.tensor([record.flower == kind and name in stages(record) for record in records])
        scores = (words([text]) @ images.T)[0]
        shown = int(right[scores.topk(count).indices].sum())
        found[text] = (
            f"{shown} of {count}, average precision {precision(scores, right):.2f} ({int(right.sum())} show it)"
        )
    return found
