"""Train the text tower: two MiniLM layers with a small vocabulary learn the place of each sentence among the images.

The image vectors stand still. For every sentence the teacher (six MiniLM layers and the word map of the image
stage) names a point of the shared space; a sentence with a plain meaning moves towards that of the plain one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from export import small_bert
from image_tower import WIDTH, follow
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel, PreTrainedTokenizerFast
from vocabulary import MAX_TOKENS


@dataclass(frozen=True)
class TextTraining:
    """The settings of the text tower's training."""

    layers: tuple[int, ...] = (0, 1)
    epochs: float = 9.0
    batch: int = 128
    rate: float = 5e-4
    weight_decay: float = 0.02
    own_share: float = 0.4
    average: float = 0.99
    seed: int = 0


@dataclass(frozen=True)
class Lesson:
    """Sentences with their target vectors in the shared space.

    ``targets`` (n, 512) are unit vectors; ``images`` (n,) is the row of the image that a caption belongs to, else -1.
    """

    texts: Sequence[str]
    targets: Tensor
    images: Tensor


class TextLearner(nn.Module):
    """A small BERT and its projection."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.projection = nn.Linear(384, WIDTH, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return unit vectors (n, 512) for token numbers (n, length)."""
        pooled = self.bert(input_ids=tokens, attention_mask=mask).pooler_output
        return F.normalize(self.projection(pooled), dim=1)


def student(teacher: BertModel, kept: Sequence[int], layers: Sequence[int]) -> TextLearner:
    """Copy the kept word pieces, the first positions and the chosen layers of MiniLM."""
    bert = small_bert(len(kept), len(layers), MAX_TOKENS)
    source, target = teacher.embeddings, bert.embeddings
    with torch.no_grad():
        target.word_embeddings.weight.copy_(source.word_embeddings.weight[list(kept)])
        target.position_embeddings.weight.copy_(source.position_embeddings.weight[:MAX_TOKENS])
        target.token_type_embeddings.weight.copy_(source.token_type_embeddings.weight[:1])
        target.LayerNorm.load_state_dict(source.LayerNorm.state_dict())
    for new, old in enumerate(layers):
        bert.encoder.layer[new].load_state_dict(teacher.encoder.layer[old].state_dict())
    return TextLearner(bert)


def length_batches(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Yield batches of rows of similar length, which need little padding, in random order."""
    order = np.argsort(np.asarray(lengths) + rng.uniform(0, 3, len(lengths)))
    batches = [order[k : k + batch] for k in range(0, len(order), batch)]
    return [batches[k] for k in rng.permutation(len(batches))]


def text_loss(vectors: Tensor, targets: Tensor, own: Tensor, bank: Tensor, scale: float, own_share: float) -> Tensor:
    """Return the loss: distance to the target, and a ranking of the images ``bank`` (m, 512) like the target's.

    For captions, part of the wanted ranking is their own image, ``own`` (n,), or -1 if there is none.
    """
    wanted = (scale * targets @ bank.T).softmax(1)
    known = own >= 0
    wanted[known] *= 1 - own_share
    wanted[known, own[known]] += own_share
    ranking = -(wanted * (scale * vectors @ bank.T).log_softmax(1)).sum(1).mean()
    return ranking + 4.0 * (1 - (vectors * targets).sum(1)).mean()


def train_text_tower(
    learner: TextLearner,
    tokenizer: PreTrainedTokenizerFast,
    lesson: Lesson,
    banks: Sequence[Tensor],
    scale: float,
    settings: TextTraining,
    report: Callable[[int, TextLearner], None],
) -> TextLearner:
    """Train in place; return the running average of the weights, in evaluation mode.

    ``banks`` are the vectors (m, 512) of the training images, one tensor per view.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    tokens = tokenizer(list(lesson.texts), truncation=True)["input_ids"]
    optimiser = _optimiser(learner, settings)
    average = copy.deepcopy(learner).eval()
    total = math.ceil(settings.epochs * math.ceil(len(tokens) / settings.batch))
    for step, rows in enumerate(_endless(tokens, settings.batch, rng)):
        if step == total:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * min(1.0, (step + 1) / 60) * (0.02 + 0.98 * (1 - step / total))
        vectors = learner.train()(*pad([tokens[row] for row in rows]))
        bank = banks[rng.integers(len(banks))]
        loss = text_loss(vectors, lesson.targets[rows], lesson.images[rows], bank, scale, settings.own_share)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        follow(average, learner, min(settings.average, (step + 1) / (step + 11)))
        if (step + 1) % 85 == 0:
            report(step + 1, average)
    return average


def _endless(tokens: Sequence[Sequence[int]], batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield from length_batches([len(ids) for ids in tokens], batch, rng)


def _optimiser(learner: TextLearner, settings: TextTraining) -> torch.optim.Optimizer:
    decay = [p for p in learner.parameters() if p.ndim > 1]
    rest = [p for p in learner.parameters() if p.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.weight_decay)


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token numbers (n, longest) padded with 0, and the attention mask."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


@torch.inference_mode()
def text_vectors(learner: TextLearner, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Return unit vectors (n, 512)."""
    tokens = tokenizer(list(texts), truncation=True)["input_ids"]
    parts = [learner(*pad(tokens[k : k + 256])) for k in range(0, len(tokens), 256)]
    return torch.cat(parts).clone()
