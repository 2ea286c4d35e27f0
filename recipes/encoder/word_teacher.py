"""Train the teacher of the small text tower: MiniLM with the word map of the image stage.

The image vectors stand still now; the word map goes on learning captions and attribute sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from image_tower import AttributeBank, WordMap, soft_contrast
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class WordTraining:
    """The settings of the word map's second training."""

    epochs: int = 8
    batch: int = 192
    rate: float = 1e-3
    weight_decay: float = 0.05
    attribute_weight: float = 0.5
    seed: int = 0


def refine_words(
    words: WordMap,
    banks: Sequence[Tensor],
    captions: Tensor,
    same: Tensor,
    bank: AttributeBank,
    scale: float,
    settings: WordTraining,
) -> WordMap:
    """Train ``words`` in place.

    ``banks`` are the training images' vectors (n, 512), one tensor per view; ``captions`` (n, 384) MiniLM's vectors
    of their captions, ``same`` (n,) equal numbers for equal captions.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    optimiser = torch.optim.AdamW(words.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(captions) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps)
    words.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(captions)).split(settings.batch):
            images = banks[rng.integers(len(banks))][rows]
            said = words(captions[rows])
            equal = (same[rows][:, None] == same[rows][None, :]).float()
            loss = soft_contrast(scale * images @ said.T, equal) + 0.5 * (1 - (images * said).sum(1)).mean()
            for attribute in bank.attributes:
                labels = bank.labels[attribute.name][rows]
                known = labels >= 0
                logits = scale * images[known] @ words(bank.draw(attribute, rng)).T
                part = F.cross_entropy(logits, labels[known], label_smoothing=0.05)
                loss = loss + settings.attribute_weight * attribute.weight * part
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return words.eval()
