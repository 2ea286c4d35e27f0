"""The text side of an encoder learned from names: a text is the sum of the vectors of its words and word pieces."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captionless.encoders.vocabulary import split_words

LENGTHS = (3, 4, 5)
"""Numbers of characters in a piece, word boundaries included; shared pieces place misspelt and unknown words."""
PIECE_WEIGHT = 0.8
"""Weight of the pieces of a word together, in relation to the word itself (measured best from 0.3 to 1.2)."""
MAX_PIECES = 16_384


def text_pieces(text: str) -> dict[str, float]:
    """Return the words (as ``=word``) and character n-grams of a text with their weights.

    The n-grams of words with boundary marks are those of fastText (Bojanowski et al. 2017, arXiv:1607.04606, sec. 3.2).
    """
    found: Counter[str] = Counter()
    for word in split_words(text):
        found[f"={word}"] += 1.0  # type: ignore[assignment]
        marked = f"<{word}>"
        for length in LENGTHS:
            grams = [marked[i : i + length] for i in range(len(marked) - length + 1)]
            for gram in grams:
                found[gram] += PIECE_WEIGHT / math.sqrt(len(grams))  # type: ignore[assignment]
    return dict(found)


def choose_pieces(texts: Sequence[str]) -> dict[str, float]:
    """Return the most common pieces of the texts, with the logarithm of their inverse document frequency as weight."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text_pieces(text).keys())
    kept = sorted(counts, key=lambda piece: (-counts[piece], piece))[:MAX_PIECES]
    return {piece: math.log((1 + len(texts)) / (1 + counts[piece])) + 0.3 for piece in kept}


def piece_matrix(texts: Sequence[str], pieces: Mapping[str, float]) -> Tensor:
    """Return the weighted pieces of each text as a unit vector (n, pieces); zero for a text without a known piece."""
    index = {piece: number for number, piece in enumerate(pieces)}
    rows = torch.zeros(len(texts), len(pieces))
    for row, text in zip(rows, texts, strict=True):
        for piece, weight in text_pieces(text).items():
            if piece in index:
                row[index[piece]] = weight * pieces[piece]
    return torch.nn.functional.normalize(rows)
