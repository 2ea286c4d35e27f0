"""Warn about prompts that are out of distribution for the encoder or the training images.

Every text embedding has nearest training images, so a model of flowers generates some flower even for "a cat". A
warning tells the user why.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from captionless.conditioning.subject import VOCABULARY
from captionless.encoders.vocabulary import split_words

if TYPE_CHECKING:
    from captionless.encoders.dual_encoder import Encoder
    from captionless.encoders.vocabulary import EncoderVocabulary

UNKNOWN_SHARE = 1 / 3
"""A prompt is unfamiliar if at least this fraction of its words is unknown."""
MOST_WORDS = 10
"""Unknown words of a prompt that are listed, and for which a similar word is searched, taking milliseconds."""
MIN_IMAGES = 100
"""With fewer training images, texts about their subject and other texts have much the same similarity."""
NEAREST = 4
"""Number of nearest training images over which the cosine similarity of a text is averaged."""


class UnfamiliarPrompt(UserWarning):
    """Warning about a prompt that is unknown to the encoder or unrelated to the training images."""


class Familiarity:
    """Detect prompts that are unknown to the encoder or unrelated to the training images.

    If the encoder is specialised and has a vocabulary, the words of the prompt are looked up. Otherwise the similarity
    of the prompt to the training images is compared with the similarity of common words, most of which are unrelated.

    Args:
        encoder: the encoder of the model.
        bank: unit image vectors of the training images, (m, d).
    """

    def __init__(self, encoder: Encoder, bank: Tensor) -> None:
        self.encoder, self.bank = encoder, bank

    def remarks(self, prompts: Sequence[str], vectors: Tensor) -> list[str]:
        """Return a message for each unfamiliar prompt, given the unit text vectors of all prompts, (n, d)."""
        if vocabulary := self.encoder.vocabulary:
            found = [vocabulary_remark(prompt, vocabulary) for prompt in prompts]
        else:
            scores = closeness(vectors, self.bank).tolist()
            found = [closeness_remark(*pair, self.images) for pair in zip(prompts, scores, strict=True)]
        return [remark for remark in found if remark]

    def warn(self, prompts: Sequence[str], vectors: Tensor) -> None:
        """Issue an ``UnfamiliarPrompt`` warning for each unfamiliar prompt."""
        for remark in self.remarks(prompts, vectors):
            warnings.warn(remark, UnfamiliarPrompt, stacklevel=3)

    @cached_property
    def images(self) -> ImageSubject:
        """The subject of the training images, computed on first access."""
        return find_image_subject(self.encoder, self.bank)


@dataclass(frozen=True)
class ImageSubject:
    """The subject of the training images, estimated by comparing them with a vocabulary of everyday words.

    Attributes:
        threshold: texts whose similarity to the training images is below this are treated as unrelated; None if the
            images are too diverse to tell.
        nearest: the three everyday words most similar to the training images, most similar first; empty if there are
            too few images.
    """

    threshold: float | None
    nearest: tuple[str, ...]


def closeness(texts: Tensor, bank: Tensor) -> Tensor:
    """Return the mean cosine similarity of each text vector, (n, d), to its nearest vectors in ``bank``, shape (n,)."""
    return (texts @ bank.T).topk(min(NEAREST, len(bank)), dim=1).values.mean(1)


def find_image_subject(encoder: Encoder, bank: Tensor) -> ImageSubject:
    """Estimate the subject of the training images from their similarity to common words, as "a photo of a …".

    Most words are unrelated to images of a narrow subject. A text is considered unrelated if its similarity is below
    the 75th percentile of the words. This threshold is cautious, because the similarity of short texts about the
    subject is often not much higher. The subject is narrow if the similarity of some word exceeds the median by more
    than twice the distance between the median and the 5th percentile, and there are enough images to tell.
    """
    if len(bank) < MIN_IMAGES:
        return ImageSubject(None, ())
    scores = closeness(encoder.encode_texts([f"a photo of a {word}" for word in VOCABULARY]), bank)
    median, spread = scores.median(), scores.median() - scores.quantile(0.05)
    narrow = bool(scores.max() > median + 2 * spread)
    nearest = tuple(VOCABULARY[i] for i in scores.topk(3).indices.tolist())
    return ImageSubject(float(scores.quantile(0.75)) if narrow else None, nearest)


def vocabulary_remark(prompt: str, vocabulary: EncoderVocabulary) -> str | None:
    """Return a message about a prompt with words unknown to a specialised encoder; None if the prompt is familiar."""
    unknown = vocabulary.unknown_words(prompt)
    searched = unknown[:MOST_WORDS] if vocabulary.by_spelling else []
    similar = {word: like for word in searched if (like := vocabulary.similar_word(word))}
    unknown = [word for word in unknown if word not in similar]
    named = vocabulary.names_subject(" ".join(similar.get(word, word) for word in split_words(prompt)))
    if named and len(unknown) < UNKNOWN_SHARE * len(prompt.split()):
        pairs = [f'"{word}" like "{like}"' for word, like in similar.items()]
        return f'In the prompt "{prompt}", the encoder reads {_listed(pairs)}.' if pairs else None
    parts = []
    if not named:
        parts.append(f"it names none of the {vocabulary.subject} that the encoder knows ({_listed(vocabulary.kinds)})")
    if unknown:
        listed = [_with_similar(word, vocabulary) for word in unknown[:MOST_WORDS]]
        listed += [f"{len(unknown) - MOST_WORDS} other words"] * (len(unknown) > MOST_WORDS)
        parts.append(f"the encoder does not know {_listed(listed)}")
    result = "follow its other words only" if named else "not match it"
    return f'The prompt "{prompt}" is unfamiliar: {", and ".join(parts)}. The images will {result}.'


def closeness_remark(prompt: str, score: float, images: ImageSubject) -> str | None:
    """Return a message about a prompt with low similarity to the training images; None if the prompt is familiar."""
    if images.threshold is None or score >= images.threshold:
        return None
    return (
        f'The prompt "{prompt}" is unfamiliar: it is unrelated to the training images, which are closest to the '
        f"words {_listed(images.nearest)}. The generated images will probably not match it."
    )


def _with_similar(word: str, vocabulary: EncoderVocabulary) -> str:
    similar = vocabulary.similar_word(word)
    return f'"{word}" (it knows "{similar}")' if similar else f'"{word}"'


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
