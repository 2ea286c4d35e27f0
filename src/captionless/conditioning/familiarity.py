"""Notice prompts about things that the encoder or the model has not learned, and say so.

Every text has a vector, and every vector has nearest images: without a word of warning, "a cat" becomes the flower that
happens to be nearest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from captionless.conditioning.subject import VOCABULARY

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder
    from captionless.encoders.vocabulary import EncoderVocabulary

UNKNOWN_SHARE = 1 / 3
"""A prompt is unfamiliar if this share of its words is unknown."""
NEAREST = 4
"""Images whose mean cosine to a text is its closeness to the training images."""


class UnfamiliarPrompt(UserWarning):
    """A prompt names nothing that the encoder knows, or nothing that the training images show."""


class Familiarity:
    """Tell prompts apart that the encoder and the training images cover from prompts about other things.

    Where a specialised encoder has a vocabulary, the words of a prompt decide. With any other encoder, the prompt's
    closeness to the training images does: common words, most of them unrelated, show how close unrelated texts come.

    Args:
        encoder: the model's encoder.
        bank: unit image vectors of training images, (m, d).
    """

    def __init__(self, encoder: Encoder, bank: Tensor) -> None:
        self.encoder, self.bank = encoder, bank

    def remarks(self, prompts: Sequence[str], vectors: Tensor) -> list[str]:
        """Return a sentence about each prompt that is unfamiliar, given the unit text vectors (n, d) of all prompts."""
        if vocabulary := self.encoder.vocabulary:
            found = [vocabulary_remark(prompt, vocabulary) for prompt in prompts]
        else:
            scores = closeness(vectors, self.bank).tolist()
            found = [closeness_remark(*pair, self.images) for pair in zip(prompts, scores, strict=True)]
        return [remark for remark in found if remark]

    def warn(self, prompts: Sequence[str], vectors: Tensor) -> None:
        """Warn of each prompt that is unfamiliar."""
        for remark in self.remarks(prompts, vectors):
            warnings.warn(remark, UnfamiliarPrompt, stacklevel=3)

    @cached_property
    def images(self) -> ImageSubject:
        """What the training images show, in common words."""
        return find_image_subject(self.encoder, self.bank)


@dataclass(frozen=True)
class ImageSubject:
    """What training images show, as far as common words tell.

    Attributes:
        threshold: texts that are less close than this are about other things; None if the images show so many things
            that no text is far from all of them.
        nearest: the three common words that are closest, the closest first.
    """

    threshold: float | None
    nearest: tuple[str, ...]


def closeness(texts: Tensor, bank: Tensor) -> Tensor:
    """Return the mean cosine of each text vector (n, d) to its nearest training images (m, d); shape (n,)."""
    return (texts @ bank.T).topk(min(NEAREST, len(bank)), dim=1).values.mean(1)


def find_image_subject(encoder: Encoder, bank: Tensor) -> ImageSubject:
    """Compare common words, as "a photo of a …", with the training images.

    Most words are unrelated to images of a narrow subject. So a text that is less close than three quarters of them is
    unrelated too; this is cautious, as short texts about the subject are often not much closer. Where no word stands
    out (above the median by twice the distance of the 5th percentile below it), the subject is not narrow.
    """
    scores = closeness(encoder.encode_texts([f"a photo of a {word}" for word in VOCABULARY]), bank)
    median, spread = scores.median(), scores.median() - scores.quantile(0.05)
    narrow = bool(scores.max() > median + 2 * spread)
    nearest = tuple(VOCABULARY[i] for i in scores.topk(3).indices.tolist())
    return ImageSubject(float(scores.quantile(0.75)) if narrow else None, nearest)


def vocabulary_remark(prompt: str, vocabulary: EncoderVocabulary) -> str | None:
    """Return what a specialised encoder does not know of a prompt; None if the prompt is familiar."""
    unknown, named = vocabulary.unknown_words(prompt), vocabulary.names_subject(prompt)
    if named and len(unknown) < UNKNOWN_SHARE * len(prompt.split()):
        return None
    parts = []
    if not named:
        parts.append(
            f"it names none of the {vocabulary.subject} that the encoder learned ({_listed(vocabulary.kinds)})"
        )
    if unknown:
        parts.append(f"the encoder has not learned {_listed([_with_similar(word, vocabulary) for word in unknown])}")
    return f'The prompt "{prompt}" is unfamiliar: {", and ".join(parts)}. The images will show something else.'


def closeness_remark(prompt: str, score: float, images: ImageSubject) -> str | None:
    """Return that a prompt is about other things than the training images, by its closeness; None if it is not."""
    if images.threshold is None or score >= images.threshold:
        return None
    return (
        f'The prompt "{prompt}" is unfamiliar: it is far from everything that the training images show. Of common '
        f"words, {_listed(images.nearest)} are closest to them. The images will probably show something else."
    )


def _with_similar(word: str, vocabulary: EncoderVocabulary) -> str:
    similar = vocabulary.similar_word(word)
    return f'"{word}" (it knows "{similar}")' if similar else f'"{word}"'


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
