"""What is measured of prompts, beside what, and what is left out with which reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import tiny
from captionless.encoders.features import Features
from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.context import EvaluationContext, PromptSet
from captionless.evaluation.metrics import share
from captionless.evaluation.report.results import Section
from captionless.evaluation.sections.text_alignment import NO_PROMPTS, text_alignment_section
from captionless.generation.prompts import Prompt, label_prompt
from evaluation_cases import context, image_set, pixel_features, split

KINDS = ("daisy", "rose")


class ByBrightness:
    """A classifier that takes dark images for daisies and bright ones for roses."""

    def predict(self, pixels: Tensor) -> Tensor:
        bright = (pixels.float().mean((1, 2, 3)) > 127).long()
        return torch.nn.functional.one_hot(bright, 2).float()


CLASSIFIER = ReferenceClassifier(ByBrightness(), KINDS, (share(9, 10), share(8, 10)))  # type: ignore[arg-type]


def encode(texts: Sequence[str]) -> Tensor:
    """Dark vectors for daisies, bright ones for roses, in the space of ``pixel_features``."""
    ramp = torch.linspace(1, 2, 192)
    return torch.stack([ramp.flip(0) if "daisy" in text else ramp for text in texts])


def follow(conditions: Tensor, _: int) -> Tensor:
    """Images that show their prompts: the first half of them daisies, the second half roses."""
    rows = torch.arange(len(conditions)) * 2 // len(conditions)
    pixels = (encode(KINDS)[rows] * 100).reshape(-1, 3, 8, 8)
    return (pixels - 60 * (rows == 0).reshape(-1, 1, 1, 1)).to(torch.uint8)


def made(*prompts: Prompt, images: int = 8, **changes: object) -> EvaluationContext:
    held_out = image_set(50, 1, ["daisy", "rose"] * 25)
    features = Features("fake", False, pixel_features, encode)
    given = {"features": features, "classifier": CLASSIFIER, "images": follow, **changes}
    return context(split(image_set(60, 0), held_out), prompts=PromptSet(prompts, "a file", images), **given)  # type: ignore[arg-type]


def figures(section: Section) -> dict[str, float]:
    return {figure.key: figure.value.value for figure in section.figures}


def test_images_that_follow_their_prompts_are_beyond_chance_in_every_figure() -> None:
    section = text_alignment_section(made(*map(label_prompt, KINDS)))
    found = {figure.key: figure for figure in section.figures}
    assert found["cosine_gain"].value.low > 0
    assert (found["r_precision"].value.value, found["recognised"].value.value) == (1, 1)
    assert found["recognised"].value.n == 16
    assert found["recognised"].real == CLASSIFIER.ceiling(torch.tensor([0, 1]))
    assert found["r_precision"].label.endswith("out of 2")
    assert not section.missing
    assert section.notes[0].startswith("2 prompts from a file, 8 images per prompt")


def test_real_images_stand_beside_prompts_that_only_name_their_label() -> None:
    labels = text_alignment_section(made(*map(label_prompt, KINDS)))
    reals = {figure.key: figure.real for figure in labels.figures}
    assert reals["cosine_gain"] is not None
    assert reals["cosine_gain"].n == reals["r_precision"].n == 50  # type: ignore[union-attr]
    prompts = (Prompt("a red rose", "rose"), Prompt("a white daisy", "daisy"))
    more = text_alignment_section(made(*prompts))
    assert {figure.real for figure in more.figures if figure.key != "recognised"} == {None}


def test_prompts_without_labels_leave_the_classifier_out_with_its_reason() -> None:
    section = text_alignment_section(made(Prompt("a rose"), Prompt("a daisy"), classifier="the prompts have no labels"))
    assert section.missing == (("Recognised as asked", "the prompts have no labels"),)
    assert set(figures(section)) == {"cosine_gain", "r_precision"}


def test_labels_that_the_folder_lacks_are_named() -> None:
    some = text_alignment_section(made(Prompt("a cat", "cat"), Prompt("a rose", "rose")))
    assert dict(some.missing)["Recognised as asked, for cat"].startswith("the folder has no images with this label")
    assert {figure.key: figure.value.n for figure in some.figures}["recognised"] == 8
    none = text_alignment_section(made(Prompt("a cat", "cat"), Prompt("a dog", "dog")))
    assert "Recognised as asked, for cat, dog" in dict(none.missing)


def test_features_of_images_alone_leave_prompts_to_the_models_own_encoder() -> None:
    section = text_alignment_section(made(*map(label_prompt, KINDS), features=Features("images", True, pixel_features)))
    assert section.figures[0].explanation.endswith("Measured with fake, the model's own encoder, so not independent.")
    both = text_alignment_section(
        made(*map(label_prompt, KINDS), features=Features("both", True, pixel_features, encode))
    )
    assert both.figures[0].explanation.endswith("Measured with both.")


def test_one_prompt_alone_cannot_be_told_from_others() -> None:
    section = text_alignment_section(made(label_prompt("rose")))
    assert "at least 2 different prompts" in dict(section.missing)["Cosine with the prompt, R-precision"]
    assert set(figures(section)) == {"recognised"}


def test_a_model_of_classes_has_no_cosine() -> None:
    prompts = [Prompt(kind, kind) for kind in KINDS]
    section = text_alignment_section(made(*prompts, model=tiny.class_model(KINDS)))
    assert set(figures(section)) == {"recognised"}
    assert section.missing == (
        ("Cosine with the prompt, R-precision", "the model is class-conditional and does not accept prompts"),
    )


def test_without_prompts_the_section_says_why() -> None:
    assert text_alignment_section(context()).missing == (("Text alignment", NO_PROMPTS),)


@pytest.mark.parametrize(("count", "shown"), [(3, 3), (45, 20)])
def test_the_grid_shows_prompts_evenly(count: int, shown: int) -> None:
    section = text_alignment_section(made(*(label_prompt(f"rose {i}") for i in range(count)), images=1))
    (grid,) = section.grids
    assert grid.image.height == 8 + shown * (18 + 96 + 8)
    assert ("Every 2th prompt of 45" in grid.note) == (count == 45)
