"""Class names as one-hot conditions, and requests for classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from captionless.conditioning.classes import check_classes, class_indices, list_classes, one_hot
from captionless.data.labels import normalise_label
from captionless.errors import CaptionlessError


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(CaptionlessError) as error:
        action()
    return str(error.value)


def test_a_class_is_a_one_at_its_place() -> None:
    assert one_hot(["rose", "daisy", "rose"], ["daisy", "rose"]).tolist() == [[0, 1], [1, 0], [0, 1]]


def test_an_unknown_class_lists_the_right_ones_and_guesses_what_was_meant() -> None:
    message = error_of(lambda: class_indices(["Roze"], ["daisy", "Rose"]))
    assert message == "there is no class 'Roze'. Did you mean Rose? The classes are: daisy, Rose."
    assert "mean" not in error_of(lambda: class_indices(["x"], ["daisy", "rose"]))


def test_a_class_is_found_whatever_the_spelling_of_its_accent() -> None:
    assert class_indices([" cafe\u0301"], ["bar", normalise_label("caf\u00e9")]) == [1]


def test_of_very_many_classes_some_are_listed_and_the_rest_counted() -> None:
    told = list_classes([f"c{i}" for i in range(40 + 2)])
    assert "c39, and 2 more" in told


@pytest.mark.parametrize(
    ("classes", "names", "words", "told"),
    [
        (
            ["daisy", "rose"],
            [],
            True,
            "instead of prompts. Choose one with `classes`. The classes are: daisy",
        ),
        (["daisy", "rose"], ["rose"], True, "is class-conditional"),
        (["daisy", "rose"], [], False, "is class-conditional"),
        (["daisy", "rose"], ["rosa"], False, "there is no class 'rosa'. Did you mean rose?"),
        ([], ["rose"], False, "was trained without classes"),
    ],
)
def test_a_wrong_or_missing_class_is_refused(classes: list[str], names: list[str], words: bool, told: str) -> None:
    assert told in error_of(lambda: check_classes("runs/x", classes, names, words))


def test_a_right_request_passes() -> None:
    check_classes("runs/x", ["daisy", "rose"], ["rose", "rose"], False)
    check_classes("bundled", [], [], True)
