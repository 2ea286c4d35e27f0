"""Copies are found where they can be found, and no model counts as not memorising where they could be missed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from captionless.evaluation.metrics import Neighbours, memorises, share
from captionless.evaluation.report.results import Section
from captionless.evaluation.sections.memorisation import (
    NO_TRACE,
    UNKNOWN,
    Matches,
    closest_pairs,
    memorisation_section,
)
from captionless.generation.generator import Generator
from evaluation_cases import Sample, context, image_set, split

COMPARED = "generated images were compared with only 0 of the 30 images that the model was trained on"


def copies_of(pixels: torch.Tensor) -> Sample:
    """A sampler of the images, mirrored."""
    return lambda conditions, _: pixels[torch.arange(len(conditions)) % len(pixels)].flip(3)


def section(**options: object) -> tuple[Section, bool | None]:
    return memorisation_section(context(**options))  # type: ignore[arg-type]


def test_new_images_are_not_flagged_and_mirrored_copies_are() -> None:
    found, honest = section()
    assert honest is False
    assert [figure.key for figure in found.figures] == ["memorised", "memorised_own"]
    assert not found.reasons
    copies, copied = section(images=copies_of(image_set(60, 0).pixels))
    assert copied is True
    for figure in copies.figures:
        assert figure.value.value > 0.9
        assert figure.real is not None
        assert figure.real.value < 0.1


def test_copies_count_as_such_only_where_training_mirrored() -> None:
    copies = copies_of(image_set(60, 0).pixels)
    model = tiny.model()
    record = replace(model.config.training, settings={"flip": False})
    unmirrored = context(images=copies)
    still = replace(model, config=replace(model.config, training=record))
    unmirrored = replace(unmirrored, generator=Generator(still, tiny.FakeEncoder()))  # type: ignore[arg-type]
    assert memorisation_section(unmirrored)[1] is False


def test_without_held_out_images_only_a_share_beyond_doubt_counts() -> None:
    data = split(image_set(60, 0), image_set(0, 1))
    found, verdict = section(data=data, images=copies_of(data.seen.pixels))
    assert verdict is True
    assert [(figure.key, figure.real) for figure in found.figures] == [("memorised_own", None)]
    assert section(data=data)[1] is None


def test_training_images_elsewhere_leave_a_doubt() -> None:
    """The model was trained on 30 images that the folder lacks; those in it are of a model it was initialised from."""
    seen = image_set(60, 0)
    data = split(seen, image_set(50, 1), trained={f"own-{i}": f"own-{i}" for i in range(30)})
    found, verdict = section(data=data)
    assert (verdict, found.reasons) == (None, (COMPARED,))
    assert COMPARED in found.notes[0].lower()
    assert section(data=data, images=copies_of(seen.pixels))[1] is True


def test_a_model_without_a_record_of_its_own_stays_in_doubt() -> None:
    found, verdict = section(data=split(image_set(60, 0), image_set(50, 1), trained={}))
    assert (verdict, found.reasons) == (None, (UNKNOWN,))


@pytest.mark.parametrize(("compared", "verdict", "notes"), [(10, None, 1), (40, False, 1), (58, False, 0)])
def test_the_share_of_training_images_compared_with_decides(compared: int, verdict: bool | None, notes: int) -> None:
    data = split(image_set(60, 0), image_set(50, 1))
    found, proven = section(data=replace(data, seen=data.seen.take(range(compared))))
    assert (proven, len(found.notes)) == (verdict, notes)


def test_few_held_out_images_cannot_say_what_is_usual() -> None:
    found, verdict = section(data=split(image_set(60, 0), image_set(30, 1)))
    assert verdict is None
    assert found.reasons == ("the reference needs 40 held-out images, but there were 30",)


def test_held_out_images_that_are_copies_leave_a_doubt() -> None:
    seen = image_set(60, 0)
    held_out = replace(image_set(50, 1), pixels=seen.pixels[:50] ^ 1)
    found, verdict = section(data=split(seen, held_out), images=copies_of(seen.pixels))
    assert verdict is None
    assert "look like copies themselves" in found.reasons[0]
    assert "they are not really held out" in found.notes[0]


@pytest.mark.parametrize(("trained", "why"), [({"gone": "gone"}, NO_TRACE), ({}, UNKNOWN)])
def test_without_training_images_nothing_is_measured(trained: dict[str, str], why: str) -> None:
    found, verdict = section(data=split(image_set(0, 0), image_set(50, 1), trained=trained))
    assert (verdict, found.missing) == (None, (("Memorisation", why),))


def test_the_closest_pairs_hold_each_training_image_once_and_the_closest_first() -> None:
    ratios = {"features": [0.9, 0.2, 0.5, 0.8], "pixels": [0.1, 0.3, 0.6, 0.7]}
    nearest = {
        name: Neighbours(torch.tensor(index), torch.ones(4), torch.tensor(ratios[name]))
        for name, index in (("features", [5, 6, 7, 7]), ("pixels", [6, 6, 8, 5]))
    }
    pairs = closest_pairs(Matches("key", "label", torch.empty(4), nearest))
    assert [(i, index) for i, index, _ in pairs] == [(0, 6), (2, 7), (3, 5)]
    assert [ratio for *_, ratio in pairs] == pytest.approx([0.1, 0.5, 0.7])


def test_the_verdict_weighs_the_share_against_that_of_real_images() -> None:
    assert memorises([share(0, 100), share(30, 100)], share(1, 100), sound=True) is True
    assert memorises([share(30, 100)], share(30, 100), sound=True) is False
    assert memorises([share(3, 100)], share(1, 100), sound=True) is False
    assert memorises([share(30, 100)], share(1, 100), sound=False) is True
    assert memorises([share(0, 100)], share(1, 100), sound=False) is None
    assert memorises([share(0, 100)], None, sound=True) is None
    assert memorises([share(10, 100)], None, sound=True) is True


@pytest.mark.parametrize("held_out", [1, 3, 5, 10, 20, 39])
def test_the_fewer_images_are_held_out_the_less_is_proven(held_out: int) -> None:
    real = share(0, held_out)
    assert memorises([share(40, 100)], real, sound=True) is True
    assert memorises([share(10, 100)], real, sound=True) is True
    assert memorises([share(0, 100)], real, sound=True) is None
    assert memorises([share(2, 100)], real, sound=True) is None


def test_what_few_real_images_look_like_too_is_not_held_against_generated_ones() -> None:
    assert memorises([share(12, 100)], share(2, 20), sound=True) is None
