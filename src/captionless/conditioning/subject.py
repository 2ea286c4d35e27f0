"""Infer the subject of a folder without captions, and build prompts about it.

The mean text embedding of these prompts is used by the bridge ``mean``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder

MODIFIERS = ("", "red ", "yellow ", "white ", "pink ", "small ", "big ")
"""Words added to each subject in turn, so that the mean is not biased towards one colour or size."""

MOST = 100
"""Approximate maximum number of sub-folders whose names are used."""

CHOSEN = 12
"""Number of words chosen from ``VOCABULARY`` if there are no sub-folders."""

_WORDS = """
    flower rose daisy sunflower tulip dandelion orchid leaf tree forest mushroom fruit vegetable meadow garden grass
    mountain lake river sea beach desert sky cloud sunset snow island waterfall cave volcano planet galaxy star moon
    dog cat horse cow sheep bird owl parrot duck fish shark whale frog snake lizard turtle insect butterfly bee beetle
    spider elephant lion tiger bear wolf fox rabbit mouse monkey dinosaur dragon person face woman man child baby hand
    portrait crowd dancer athlete soldier statue mask skull house building castle church bridge tower city street room
    kitchen window door chair table lamp bed clock vase bottle cup plate cake bread pizza soup coffee car truck bus
    train bicycle motorcycle boat ship aeroplane rocket robot machine engine tool knife sword shield coin jewel ring
    shoe shirt dress hat bag toy doll ball book letter digit symbol logo flag map chart pattern texture fabric stone
    wood metal glass painting drawing sketch cartoon icon sprite character monster weapon potion tile cell bacteria
    crystal fossil shell feather
"""

VOCABULARY = tuple(_WORDS.split())
"""Common subjects of image collections."""


def subject_prompts(words: Sequence[str]) -> list[str]:
    """Return a prompt for each combination of word and modifier, such as "a photo of a red rose"."""
    return [f"a photo of a {modifier}{word}" for word in words for modifier in MODIFIERS]


def subject_mean(names: Sequence[str], vectors: Tensor, encoder: Encoder) -> Tensor:
    """Return the mean text vector of prompts about the subjects of the images, shape (d,).

    Args:
        names: relative paths of the images. If there are at least two sub-folders, their names are the subjects.
        vectors: unit image vectors, (n, d). Otherwise, the subjects are the words of ``VOCABULARY`` with the highest
            cosine similarity to their mean.
        encoder: the encoder that computed ``vectors``.
    """
    words: Sequence[str] = folder_words(names)
    words = words[:: max(1, len(words) // MOST)]
    if len(words) < 2:
        plain = encoder.encode_texts([f"a photo of a {word}" for word in VOCABULARY])
        closest = (plain @ vectors.mean(0)).topk(CHOSEN).indices
        words = [VOCABULARY[i] for i in closest.tolist()]
    mean: Tensor = torch.as_tensor(encoder.encode_texts(subject_prompts(words))).mean(0)
    return mean


def folder_words(names: Sequence[str]) -> list[str]:
    """Return the distinct names of the images' innermost sub-folders as words, sorted."""
    folders = {name.rpartition("/")[0].rpartition("/")[2] for name in names}
    return sorted({" ".join(folder.replace("_", " ").replace("-", " ").split()) for folder in folders} - {""})
