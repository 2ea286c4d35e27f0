"""The vocabulary of a specialised encoder, which is used to detect prompts about unfamiliar things."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from captionless.errors import CaptionlessError
from captionless.text_files import read_json, write_text

VOCABULARY = "vocabulary.json"
WORD = r"[^\W_]{2,}"
"""The words of a text in lower case: letters and digits, without single ones."""


@dataclass(frozen=True)
class EncoderVocabulary:
    """The words of an encoder's training texts, in lower case.

    Attributes:
        subject: what the encoder is about, in the plural, such as "flowers".
        kinds: the kinds of the subject that the encoder distinguishes.
        subjects: words for the subject, its kinds and its parts.
        words: all words.
        by_spelling: whether the encoder reads an unknown word like a known one of similar spelling.
    """

    subject: str
    kinds: tuple[str, ...]
    subjects: frozenset[str]
    words: frozenset[str]
    by_spelling: bool = False

    def names_subject(self, text: str) -> bool:
        """Return whether the text contains a word for the subject."""
        return any(not self.subjects.isdisjoint(singulars(word)) for word in split_words(text))

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of the text that do not occur in the training texts."""
        return [word for word in split_words(text) if self.words.isdisjoint(singulars(word))]

    def similar_word(self, word: str) -> str | None:
        """Return the known word with the most similar spelling; None if there is no similar word."""
        return next(iter(get_close_matches(word, sorted(self.words), n=1, cutoff=0.75)), None)


def split_words(text: str) -> list[str]:
    """Return the words of a text, in lower case, without single letters."""
    return re.findall(WORD, text.lower())


def singulars(word: str) -> set[str]:
    """Return an English word together with its possible singular forms."""
    endings = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))
    return {word} | {word.removesuffix(plural) + end for plural, end in endings if word.endswith(plural)}


def write_vocabulary(
    folder: Path, subject: str, kinds: Iterable[str], subjects: Iterable[str], words: Iterable[str]
) -> None:
    """Write the vocabulary into an encoder's folder."""
    content = {"subject": subject, "kinds": list(kinds), "subjects": sorted(set(subjects)), "words": sorted(set(words))}
    write_text(folder / VOCABULARY, json.dumps(content, indent=0, ensure_ascii=False) + "\n")


def read_vocabulary(folder: Path) -> EncoderVocabulary | None:
    """Read the vocabulary from an encoder's folder; None if there is no vocabulary file.

    Raises:
        CaptionlessError: the file is damaged.
    """
    path = folder / VOCABULARY
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        kinds, subjects, words = ([str(word) for word in content[name]] for name in ("kinds", "subjects", "words"))
        return EncoderVocabulary(str(content["subject"]), tuple(kinds), frozenset(subjects), frozenset(words))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionlessError(
            f"the encoder's vocabulary {path} is damaged ({error}). Delete the file, or reinstall captionless if this "
            "is the bundled encoder."
        ) from error
