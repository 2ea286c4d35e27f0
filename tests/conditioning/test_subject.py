"""The contract of conditioning.subject: where the words for what a folder shows lie, found without a caption."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.conditioning.subject import CHOSEN, MODIFIERS, VOCABULARY, folder_words, subject_mean, subject_prompts
from tiny import FakeEncoder, unit_vectors

ENCODER = FakeEncoder(width=64)


def prompts(*words: str) -> Tensor:
    return ENCODER.encode_texts(subject_prompts(words))


# --- the words ---


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "b.png"], []),
        (["rose/a.png", "rose/b.png"], ["rose"]),
        (["tulip/a.png", "rose/b.png", "c.png"], ["rose", "tulip"]),
        (
            ["red_rose/a.png", "black-eyed--susan/b.png", " wild  rose_/c.png"],
            ["black eyed susan", "red rose", "wild rose"],
        ),
        (["flowers/rose/a.png", "flowers/tulip/b.png"], ["rose", "tulip"]),
        (["train/rose/a.png", "test/rose/b.png", "test/tulip/c.png"], ["rose", "tulip"]),
        (["_/a.png", "-/b.png"], []),
        (["été/a.png", "зима/b.png"], ["été", "зима"]),
    ],
    ids=["none", "one", "some", "several words", "innermost", "each once", "no letters", "any script"],
)
def test_subfolders_name_what_lies_in_them(names: list[str], words: list[str]) -> None:
    assert folder_words(names) == words


def test_each_word_is_asked_about_plainly_and_with_every_modifier() -> None:
    asked = subject_prompts(["rose", "tulip"])
    assert len(asked) == len(set(asked)) == 2 * len(MODIFIERS)
    assert asked[0] == "a photo of a rose"
    assert "a photo of a small tulip" in asked


def test_the_vocabulary_holds_each_word_once() -> None:
    assert len(VOCABULARY) == len(set(VOCABULARY)) > 10 * CHOSEN
    assert all(word.isalpha() and word.islower() for word in VOCABULARY)


# --- where they lie ---


def test_the_subject_is_the_mean_of_prompts_about_the_subfolders() -> None:
    mean = subject_mean(["rose/a.png", "tulip/b.png"], unit_vectors(2, 64), ENCODER)  # type: ignore[arg-type]
    torch.testing.assert_close(mean, prompts("rose", "tulip").mean(0))


def test_every_subfolder_counts_alike_however_many_images_lie_in_it() -> None:
    names = [*(f"rose/{i}.png" for i in range(9)), "tulip/a.png"]
    mean = subject_mean(names, unit_vectors(10, 64), ENCODER)  # type: ignore[arg-type]
    torch.testing.assert_close(mean, prompts("rose", "tulip").mean(0))


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["all/a.png", "all/b.png"], ["x/all/a.png", "y/all/b.png"]])
def test_without_subfolders_the_closest_words_of_the_vocabulary_are_the_subject(names: list[str]) -> None:
    shown = ("dog", "cat", "horse")
    pictures = F.normalize(ENCODER.encode_texts([f"a photo of a {word}" for word in shown]), dim=1)
    cosines = {word: float(ENCODER.encode_texts([f"a photo of a {word}"]) @ pictures.mean(0)) for word in VOCABULARY}
    closest = sorted(VOCABULARY, key=cosines.__getitem__)[-CHOSEN:]
    assert set(shown) < set(closest)
    torch.testing.assert_close(subject_mean(names, pictures, ENCODER), prompts(*closest).mean(0))  # type: ignore[arg-type]
