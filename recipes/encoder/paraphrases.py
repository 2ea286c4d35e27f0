"""Paraphrased prompts, and the flower and colour that an encoder finds for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentences import KINDS, PETALS, article
from torch import Tensor


@dataclass(frozen=True)
class Paraphrase:
    """A prompt, and its meaning in the words of the records."""

    text: str
    kind: str
    petals: str
    new: tuple[str, ...]


def read_paraphrases(path: Path) -> list[Paraphrase]:
    """Read JSON lines: ``text``, ``kind``, ``petals`` and ``new`` (its words that no caption has)."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Paraphrase(x["text"], x["kind"], x["petals"], tuple(x["new"])) for x in lines]


def kind_and_colour(texts: Sequence[str], words: Callable[[Sequence[str]], Tensor]) -> list[tuple[str, str]]:
    """Return the nearest of the 30 plain prompts "a <colour> <kind>" for each text."""
    pairs = [(kind, colour) for kind in KINDS for colour in PETALS]
    plain = words([f"{article(colour)} {kind}" for kind, colour in pairs])
    return [pairs[k] for k in (words(texts) @ plain.T).argmax(1).tolist()]
