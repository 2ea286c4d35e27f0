"""The contract of captionless.evaluation.assessment.files: a grade on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from assessment_cases import CLASSES, judge
from captionless.evaluation.assessment.files import GRADE, MOST, SHEET, sheet, write
from captionless.evaluation.assessment.grade import CEILING, Grade, Mistake, verdicts
from captionless.evaluation.metrics import share

TABLE = ((20, 0, 0), (1, 19, 0), (0, 2, 18))


@pytest.fixture
def grade() -> Grade:
    found = verdicts(judge((8, 10), (9, 10), (10, 10)), {n: (n,) for n in CLASSES}, torch.tensor(TABLE), CEILING)
    wrong = [("rose", "daisy", 25), ("tulip", "rose", 40), ("tulip", "rose", 41)]
    mistakes = tuple(Mistake(a, b, a, seed, Image.new("RGB", (8, 8), "red")) for a, b, seed in wrong)
    left_out = (("moss", "too few"),)
    return Grade("m", "d", "s", CEILING, CLASSES, found, TABLE, share(27, 30), left_out, ("mind",), mistakes)


def test_the_json_holds_all_that_was_found(grade: Grade, tmp_path: Path) -> None:
    assert write(tmp_path / "new", grade) == [tmp_path / "new" / GRADE, tmp_path / "new" / SHEET]
    written = json.loads((tmp_path / "new" / GRADE).read_text())
    assert (written["format"], written["model"], written["data"], written["settings"]) == (1, "m", "d", "s")
    assert (written["passing"], written["passed"], written["classifier"]["n"]) == ("ceiling", False, 30)
    rose, tulip = written["classes"][1:]
    assert rose["taken_for"] == {"daisy": 1, "rose": 19}
    assert (rose["passed"], tulip["passed"], tulip["bar"]) == (True, False, 1.0)
    assert tulip["recognised"]["value"] == 0.9
    assert tulip["real"]["n"] == 10
    assert written["left_out"] == {"moss": "too few"}
    assert written["notes"] == ["mind"]
    assert written["mistakes"][0] == {"label": "rose", "seen": "daisy", "prompt": "rose", "seed": 25}


def test_the_sheet_shows_what_was_not_recognised_some_of_each_class(grade: Grade) -> None:
    many = replace(grade, mistakes=grade.mistakes[:1] + grade.mistakes[1:2] * 1000)
    assert sheet(many).height < 2000
    assert sheet(many).height > sheet(grade).height
    assert sheet(replace(many, mistakes=many.mistakes[: MOST + 1])).size == sheet(many).size


def test_where_all_was_recognised_there_is_no_sheet_and_an_old_one_goes(grade: Grade, tmp_path: Path) -> None:
    write(tmp_path, grade)
    assert write(tmp_path, replace(grade, mistakes=())) == [tmp_path / GRADE]
    assert [path.name for path in tmp_path.iterdir()] == [GRADE]
