"""The contract of captionless.encoders.vocabulary: the words that a specialised encoder learned."""

from pathlib import Path

import pytest

from captionless.encoders.vocabulary import VOCABULARY, EncoderVocabulary, read_vocabulary, singulars, write_vocabulary
from captionless.errors import CaptionlessError

FLOWERS = EncoderVocabulary(
    "flowers",
    ("daisy", "rose"),
    frozenset(["daisy", "rose", "petal", "leaf"]),
    frozenset(["a", "red", "daisy", "rose", "the", "of", "petal", "leaf"]),
)


@pytest.mark.parametrize("text", ["a red Rose", "ROSES", "daisies, the daisies", "a rose's petals", "leaves"])
def test_a_text_names_the_subject_in_singular_and_plural(text: str) -> None:
    assert FLOWERS.names_subject(text)


@pytest.mark.parametrize("text", ["", "a red cat", "primrose", "红玫瑰", "42"])
def test_a_text_about_other_things_does_not(text: str) -> None:
    assert not FLOWERS.names_subject(text)


def test_unknown_words_are_those_of_no_training_text() -> None:
    assert FLOWERS.unknown_words("The RED daisies of Émile's 42 rosés") == ["émile", "42", "rosés"]
    assert FLOWERS.unknown_words("a red rose") == []


@pytest.mark.parametrize(("word", "known"), [("dasy", "daisy"), ("roze", "rose"), ("zebra", None)])
def test_a_misspelt_word_finds_the_known_one(word: str, known: str | None) -> None:
    assert FLOWERS.similar_word(word) == known


def test_a_word_is_one_of_its_singulars() -> None:
    assert singulars("daisies") >= {"daisies", "daisy"}
    assert singulars("leaves") >= {"leaves", "leaf"}
    assert singulars("rose") == {"rose"}


def test_a_vocabulary_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    write_vocabulary(tmp_path, FLOWERS.subject, FLOWERS.kinds, FLOWERS.subjects, FLOWERS.words)
    assert read_vocabulary(tmp_path) == FLOWERS


@pytest.mark.parametrize(
    "content", ["", "[]", '{"subject": "flowers"}', '{"subject": 1, "kinds": 2, "subjects": [], "words": []}']
)
def test_a_damaged_vocabulary_is_noticed(tmp_path: Path, content: str) -> None:
    (tmp_path / VOCABULARY).write_text(content)
    with pytest.raises(CaptionlessError, match="damaged"):
        read_vocabulary(tmp_path)
