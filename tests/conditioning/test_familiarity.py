"""The contract of captionless.conditioning.familiarity: prompts about things that were never learned are noticed."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.conditioning.familiarity import Familiarity, ImageSubject, closeness, closeness_remark
from captionless.conditioning.subject import VOCABULARY
from captionless.encoders.vocabulary import EncoderVocabulary
from tiny import unit_vectors

WORDS = EncoderVocabulary(
    "flowers",
    ("daisy", "rose"),
    frozenset({"daisy", "rose"}),
    frozenset(["a", "red", "daisy", "rose", "in", "the", "rain", "horse"]),
)


def specialised(vocabulary: EncoderVocabulary | None) -> Familiarity:
    return Familiarity(SimpleNamespace(vocabulary=vocabulary), unit_vectors(9))  # type: ignore[arg-type]


def general(bank: Tensor, related: Sequence[str]) -> Familiarity:
    """An encoder without vocabulary, to which only some words are ``related`` to the images."""
    subject = F.normalize(bank.mean(0), dim=0)

    def encode_texts(texts: Sequence[str]) -> Tensor:
        noise = unit_vectors(len(texts), width=bank.shape[1], seed=5)
        own = torch.tensor([any(word in text for word in related) for text in texts]).float()
        return F.normalize(noise + 2 * own[:, None] * subject, dim=1)

    return Familiarity(SimpleNamespace(vocabulary=None, encode_texts=encode_texts), bank)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["a rose", "red daisies in the rain", "a rose in a storm"])
def test_a_prompt_that_names_the_subject_in_known_words_passes(prompt: str) -> None:
    assert specialised(WORDS).remarks([prompt], unit_vectors(1)) == []


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a horse", ["flowers", "daisy and rose"]),
        ("a purple potion", ["flowers", '"purple" and "potion"']),
        ("eine rote Rose", ['"eine"', '"rote" (it knows "rose")']),
    ],
)
def test_a_remark_names_what_is_not_known_and_what_is(prompt: str, named: list[str]) -> None:
    (remark,) = specialised(WORDS).remarks([prompt], unit_vectors(1))
    assert f'"{prompt}"' in remark
    assert all(words in remark for words in named)


def test_of_many_unknown_words_a_few_are_listed_and_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr(EncoderVocabulary, "similar_word", lambda _, word: looked_up.append(word))
    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(500)]
    (remark,) = specialised(replace(WORDS, by_spelling=True)).remarks([" ".join(words)], unit_vectors(1))
    assert '"wordaj" and 490 other words' in remark
    assert set(looked_up) == set(words[:10])


@pytest.mark.parametrize(
    ("prompt", "remark"),
    [
        ("a red dasy", 'In the prompt "a red dasy", the encoder reads "dasy" like "daisy".'),
        ("a rose", None),
        ("a shiny rose", 'does not know "shiny". The images will follow its other words only.'),
        ("a shiny hrse", "it names none of the flowers"),
    ],
)
def test_an_encoder_that_reads_by_spelling_is_not_troubled_by_misspelt_words(prompt: str, remark: str | None) -> None:
    (found,) = specialised(replace(WORDS, by_spelling=True)).remarks([prompt], unit_vectors(1)) or [None]
    assert found is remark is None or str(remark) in str(found)
    if remark and "dasy" in prompt:
        assert "is unfamiliar" in specialised(WORDS).remarks([prompt], unit_vectors(1))[0]


def test_each_prompt_is_judged_alone() -> None:
    remarks = specialised(WORDS).remarks(["a rose", "a horse", "a daisy", "a cow"], unit_vectors(4))
    assert [word in remark for word, remark in zip(("horse", "cow"), remarks, strict=True)] == [True, True]


def test_an_encoder_without_vocabulary_is_asked_how_close_texts_are_to_the_images() -> None:
    bank = F.normalize(unit_vectors(1, width=64, seed=1) + 0.5 * unit_vectors(120, width=64, seed=2), dim=1)
    familiarity = general(bank, ["rose", "tulip", "daisy"])
    prompts = ["a red rose", "a spaceship"]
    (remark,) = familiarity.remarks(prompts, familiarity.encoder.encode_texts(prompts))
    assert '"a spaceship"' in remark
    assert set(familiarity.images.nearest) == {"rose", "tulip", "daisy"}


def test_images_of_everything_make_no_prompt_unfamiliar() -> None:
    familiarity = general(unit_vectors(500, width=8, seed=3), [])
    assert familiarity.images.threshold is None
    assert familiarity.remarks(["anything"], unit_vectors(1)) == []


def test_few_images_make_no_prompt_unfamiliar() -> None:
    bank = F.normalize(unit_vectors(1, width=64, seed=1) + 0.5 * unit_vectors(99, width=64, seed=2), dim=1)
    assert general(bank, ["rose", "tulip", "daisy"]).images.threshold is None


def test_closeness_is_the_mean_cosine_to_the_four_nearest_images() -> None:
    text, bank = unit_vectors(2, seed=1), unit_vectors(30, seed=2)
    expected = [sum(sorted((bank @ one).tolist())[-4:]) / 4 for one in text]
    assert closeness(text, bank).tolist() == pytest.approx(expected)
    assert closeness(text, bank[:1]).tolist() == pytest.approx((text @ bank[0]).tolist())


def test_the_threshold_decides() -> None:
    images = ImageSubject(0.4, VOCABULARY[:3])
    assert closeness_remark("a cat", 0.39, images)
    assert closeness_remark("a cat", 0.41, images) is None
