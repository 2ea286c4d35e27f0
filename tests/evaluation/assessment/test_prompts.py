"""The contract of captionless.evaluation.assessment.prompts: what a model that is graded is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from captionless.errors import CaptionlessError
from captionless.evaluation.assessment.prompts import class_prompts, spread
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt

WORDS = Generator(tiny.model(), device="cpu")
OF_CLASSES = Generator(tiny.class_model(("daisy", "rose")), device="cpu")


def test_a_model_of_words_is_asked_for_photographs_of_every_label() -> None:
    asked, left_out = class_prompts(WORDS, ["rose", "tulip"], ["moss"], None)
    assert asked == {"rose": ("a photo of a rose",), "tulip": ("a photo of a tulip",)}
    assert left_out == (("moss", "the folder has fewer than 5 different images of it"),)


def test_a_model_of_classes_is_asked_for_those_that_the_folder_has_and_the_others_are_named() -> None:
    asked, left_out = class_prompts(OF_CLASSES, ["rose", "tulip"], [], None)
    assert asked == {"rose": ("rose",)}
    assert left_out == (("daisy", "the folder has no images of it"), ("tulip", "the model has no such class"))


def test_a_class_of_too_few_images_is_left_out_once() -> None:
    _, left_out = class_prompts(OF_CLASSES, ["rose", "tulip"], ["daisy"], None)
    assert dict(left_out)["daisy"] == "the folder has fewer than 5 different images of it"
    assert len(left_out) == 2


def test_a_file_says_what_stands_for_each_label_and_labels_without_prompts_are_left_out() -> None:
    prompts = [Prompt("a red rose", "rose"), Prompt("a lily", "lily"), Prompt("a pink rose", " rose")]
    asked, left_out = class_prompts(WORDS, ["lily", "rose", "tulip"], [], prompts)
    assert list(asked.items()) == [("lily", ("a lily",)), ("rose", ("a red rose", "a pink rose"))]
    assert left_out == (("tulip", "no prompt has this label"),)


def test_a_file_may_translate_the_names_of_a_models_classes() -> None:
    asked, _ = class_prompts(OF_CLASSES, ["gänseblümchen", "x"], [], [Prompt("daisy", "ga\u0308nseblu\u0308mchen")])
    assert asked == {"gänseblümchen": ("daisy",)}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt("a red rose"), r"'a red rose' has no label\. Write JSON lines"),
        (Prompt("a cat", "cat"), r"the label cat, which the folder lacks\. Its labels are: rose, tulip\."),
        (Prompt("moss", "moss"), r"the label moss, but the folder has fewer than 5 different images"),
    ],
)
def test_a_prompt_that_nothing_can_judge_is_refused(prompt: Prompt, said: str) -> None:
    with pytest.raises(CaptionlessError, match=said):
        class_prompts(WORDS, ["rose", "tulip"], ["moss"], [Prompt("a rose", "rose"), prompt])


def test_without_a_class_in_common_both_sides_are_named_with_the_way_out() -> None:
    told = (
        r"no class in common\. The classes are: daisy, rose\. .* labels are: cat, dog\. .*\"daisy\", \"label\": \"cat\""
    )
    with pytest.raises(CaptionlessError, match=told):
        class_prompts(OF_CLASSES, ["cat", "dog"], [], None)


@given(k=st.integers(1, 9), n=st.integers(1, 40))
def test_images_are_spread_evenly_over_prompts(k: int, n: int) -> None:
    texts = [str(i) for i in range(k)]
    found = spread(texts, n)
    counts = [found.count(text) for text in texts]
    assert len(found) == n
    assert max(counts) - min(counts) <= 1
    assert found == sorted(found)
