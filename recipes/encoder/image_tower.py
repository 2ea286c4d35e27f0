"""Train the image tower: Lite1's upper blocks and a linear projection, from captions and attribute sentences.

The words stand still meanwhile: MiniLM's sentence vectors through a small map that is learned along.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lite1 import lower_maps, pooled
from photographs import Photograph, centre, normalise, random_view
from sentences import ATTRIBUTES, Attribute
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EfficientNetModel

FIRST = 8
"""The first trained block. The blocks below keep their ImageNet weights, so their maps are computed once."""

WIDTH = 512


@dataclass(frozen=True)
class ImageTraining:
    """The settings of the image tower's training."""

    epochs: int = 9
    batch: int = 96
    views: int = 7
    tower_rate: float = 3e-4
    head_rate: float = 1.5e-3
    weight_decay: float = 0.05
    dropout: float = 0.15
    align: float = 0.5
    average: float = 0.98
    seed: int = 0


class WordMap(nn.Module):
    """Map MiniLM's sentence vector (384) into the shared space (512): a linear map and a small correction."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.straight = nn.Linear(384, WIDTH, bias=False)
        self.bend = nn.Sequential(nn.Linear(384, 768), nn.GELU(), nn.Dropout(dropout), nn.Linear(768, WIDTH))
        nn.init.zeros_(self.bend[3].weight)

    def forward(self, sentences: Tensor) -> Tensor:
        """Return unit vectors (n, 512)."""
        scaled = sentences * math.sqrt(384)
        return F.normalize(self.straight(scaled) + self.bend(scaled), dim=1)


class AttributeBank:
    """The classes of each attribute in some records, and MiniLM's vectors of their wordings."""

    def __init__(self, records: Sequence[Photograph], embed: Callable[[Sequence[str]], Tensor]) -> None:
        self.attributes = ATTRIBUTES
        self.labels: dict[str, Tensor] = {}
        self.vectors: dict[str, list[Tensor]] = {}
        self.wordings: dict[str, list[list[str]]] = {}
        for attribute in ATTRIBUTES:
            values = [attribute.value(record) for record in records]
            classes = sorted({value for value in values if value is not None})
            index = {value: k for k, value in enumerate(classes)}
            self.labels[attribute.name] = torch.tensor([index.get(v, -1) if v else -1 for v in values])
            self.wordings[attribute.name] = [list(attribute.wordings(value)) for value in classes]
        texts = sorted({text for bank in self.wordings.values() for group in bank for text in group})
        vectors, place = embed(texts), {text: k for k, text in enumerate(texts)}
        for name, bank in self.wordings.items():
            self.vectors[name] = [vectors[[place[text] for text in group]] for group in bank]

    def draw(self, attribute: Attribute, rng: np.random.Generator) -> Tensor:
        """Return one wording per class, (classes, 384)."""
        return torch.stack([group[rng.integers(len(group))] for group in self.vectors[attribute.name]])


def soft_contrast(logits: Tensor, same: Tensor) -> Tensor:
    """Return the contrastive loss of both directions; ``same`` (n, n) marks the pairs that are equally right."""
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.inference_mode()
def cached_maps(model: EfficientNetModel, squares: Sequence[Tensor], batch: int = 32) -> Tensor:
    """Return the lower blocks' maps (n, 80, 12, 12) in float16, for square images (3, side, side)."""
    parts = []
    for start in range(0, len(squares), batch):
        pixels = normalise(torch.stack(list(squares[start : start + batch])))
        parts.append(lower_maps(model, pixels, FIRST).half().contiguous())
    return torch.cat(parts).clone()


def cached_views(model: EfficientNetModel, pixels: Sequence[Tensor], settings: ImageTraining) -> list[Tensor]:
    """Return the lower maps of the centre crops, and then of ``settings.views`` random views."""
    rng = np.random.default_rng(settings.seed)
    maps = [cached_maps(model, [centre(image) for image in pixels])]
    for _ in range(settings.views):
        maps.append(cached_maps(model, [random_view(image, rng) for image in pixels]))
    return maps


class ImageLearner(nn.Module):
    """The parts that are trained together: upper blocks, projection, word map, temperature."""

    def __init__(self, tower: EfficientNetModel, dropout: float) -> None:
        super().__init__()
        self.tower = tower
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(1280, WIDTH, bias=False)
        self.words = WordMap()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def images(self, maps: Tensor) -> Tensor:
        """Return unit image vectors (n, 512) for cached maps."""
        maps = maps.float().contiguous(memory_format=torch.channels_last)
        return F.normalize(self.projection(self.dropout(pooled(self.tower, maps, FIRST))), dim=1)


def train_image_tower(
    tower: EfficientNetModel,
    maps: Sequence[Tensor],
    captions: Tensor,
    same: Tensor,
    bank: AttributeBank,
    settings: ImageTraining,
    report: Callable[[int, ImageLearner], None],
) -> ImageLearner:
    """Train on every row of ``maps``; return the running average of the weights, in evaluation mode.

    ``captions`` (n, 384) are MiniLM's vectors, ``same`` (n,) equal numbers for equal captions.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed + 1)
    learner = ImageLearner(tower, settings.dropout)
    optimiser, schedule = _optimiser(learner, settings, len(captions))
    average = copy.deepcopy(learner).eval()
    step = 0
    for epoch in range(settings.epochs):
        learner.train()
        tower.eval()  # batch statistics stay ImageNet's: they are steadier than a small batch's own
        for rows in torch.randperm(len(captions)).split(settings.batch):
            view = rng.integers(len(maps), size=len(rows))
            drawn = torch.stack([maps[v][r] for v, r in zip(view, rows.tolist(), strict=True)])
            loss = _loss(learner, learner.images(drawn), rows, captions, same, bank, settings, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            step += 1
            follow(average, learner, min(settings.average, step / (step + 10)))
        report(epoch, average)
    return average


def _loss(
    learner: ImageLearner,
    images: Tensor,
    rows: Tensor,
    captions: Tensor,
    same: Tensor,
    bank: AttributeBank,
    settings: ImageTraining,
    rng: np.random.Generator,
) -> Tensor:
    scale = learner.logit_scale.clamp(max=math.log(60.0)).exp()
    words = learner.words(captions[rows])
    equal = (same[rows][:, None] == same[rows][None, :]).float()
    loss = soft_contrast(scale * images @ words.T, equal)
    loss = loss + settings.align * (1 - (images * words).sum(1)).mean()
    for attribute in bank.attributes:
        labels = bank.labels[attribute.name][rows]
        known = labels >= 0
        prompts = learner.words(bank.draw(attribute, rng))
        logits = scale * images[known] @ prompts.T
        loss = loss + attribute.weight * F.cross_entropy(logits, labels[known], label_smoothing=0.05)
    return loss


def _optimiser(
    learner: ImageLearner, settings: ImageTraining, images: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    tower = [p for b in learner.tower.encoder.blocks[FIRST:] for p in b.parameters()]
    tower += [*learner.tower.encoder.top_conv.parameters(), *learner.tower.encoder.top_bn.parameters()]
    rest = [p for name, p in learner.named_parameters() if not name.startswith("tower.")]
    groups = [
        {"params": [p for p in tower if p.ndim > 1], "lr": settings.tower_rate},
        {"params": [p for p in tower if p.ndim == 1], "lr": settings.tower_rate, "weight_decay": 0.0},
        {"params": rest, "lr": settings.head_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    steps = settings.epochs * math.ceil(images / settings.batch)
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


@torch.no_grad()
def follow(average: nn.Module, learner: nn.Module, keep: float) -> None:
    """Move the running average towards the learner's weights, keeping the share ``keep`` of it."""
    for old, new in zip(average.parameters(), learner.parameters(), strict=True):
        old.lerp_(new, 1 - keep)
