"""The contract of captionless.evaluation.assessment.grade: from a table of confusion to a verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from assessment_cases import CLASSES, classifier
from captionless.evaluation.assessment.grade import CEILING, FILE, Grade, Passing, Verdict, verdicts, write_grade
from captionless.evaluation.metrics import share

ASKED = {name: (name,) for name in CLASSES}


def graded(table: list[list[int]], passing: Passing, *right: tuple[int, int]) -> Grade:
    found = verdicts(classifier(*right or [(9, 10)] * 3), ASKED, torch.tensor(table), passing)
    return Grade("m", "d", "s", passing, CLASSES, found, tuple(map(tuple, table)), None)


def test_each_class_must_reach_the_share_that_is_asked_for() -> None:
    assert graded([[20, 0, 0], [0, 20, 0], [1, 0, 19]], 0.95).passed  # 19 of 20 is 0.95, and enough
    missed = graded([[20, 0, 0], [0, 20, 0], [2, 0, 18]], 0.95)
    assert not missed.passed
    (failed,) = missed.failed
    assert failed.label == "tulip"
    assert failed.recognised == share(18, 20)


def test_classes_that_pass_do_not_make_up_for_one_that_fails() -> None:
    assert not graded([[100, 0, 0], [0, 100, 0], [100, 0, 0]], 0.5).passed


def test_the_ceiling_asks_of_each_class_what_its_real_images_reach() -> None:
    table = [[18, 2, 0], [0, 20, 0], [5, 1, 14]]
    found = graded(table, CEILING, (45, 50), (50, 50), (7, 10))
    assert [verdict.bar for verdict in found.verdicts] == [0.9, 1.0, 0.7]
    assert found.passed
    assert [one.label for one in graded(table, CEILING, (46, 50), (50, 50), (71, 100)).failed] == ["daisy", "tulip"]


def test_a_class_that_the_classifier_never_knows_is_not_passed_by_never_being_recognised() -> None:
    found = graded([[20, 0, 0], [0, 20, 0], [20, 0, 0]], CEILING, (9, 10), (9, 10), (0, 10))
    assert [one.label for one in found.failed] == ["tulip"]


def test_only_what_was_asked_for_is_graded_whatever_else_the_classifier_knows() -> None:
    asked = {"rose": ("a red rose", "a rose"), "tulip": ("a tulip",)}
    rose, tulip = verdicts(classifier((9, 10), (8, 10), (7, 10)), asked, torch.tensor([[1, 3, 0], [0, 0, 4]]), 0.7)
    assert (rose.prompts, rose.recognised, rose.real) == (("a red rose", "a rose"), share(3, 4), share(8, 10))
    assert (tulip.recognised, tulip.real) == (share(4, 4), share(7, 10))


@given(n=st.integers(1, 200), hits=st.integers(0, 200), percent=st.integers(1, 100))
def test_a_class_passes_exactly_where_its_hits_are_enough(n: int, hits: int, percent: int) -> None:
    hits = min(hits, n)
    verdict = Verdict("rose", ("rose",), share(hits, n), None, percent / 100)
    assert verdict.passed == (100 * hits >= percent * n)


def test_the_json_holds_all_that_was_found(tmp_path: Path) -> None:
    grade = graded([[20, 0, 0], [1, 19, 0], [0, 2, 18]], CEILING, (8, 10), (9, 10), (10, 10))
    path = write_grade(tmp_path / "new", replace(grade, left_out=("moss",), classifier=classifier()))
    assert path == tmp_path / "new" / FILE
    written = json.loads(path.read_text())
    assert (written["format"], written["model"], written["passing"], written["passed"]) == (3, "m", "ceiling", False)
    rose, tulip = written["verdicts"][1:]
    assert (rose["passed"], tulip["passed"], tulip["bar"]) == (True, False, 1.0)
    assert (tulip["recognised"]["value"], tulip["real"]["n"]) == (0.9, 10)
    assert written["confusion"][1] == [1, 19, 0]
    assert written["left_out"] == ["moss"]
    assert "classifier" not in written
