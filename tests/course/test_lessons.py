"""The lessons: what can be promised of them without running them. `python course/run.py` runs them."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import pytest

COURSE = Path(__file__).parents[2] / "course"
LESSONS = sorted(COURSE.glob("[1-9]_*.py"))
OTHERS = {"torch", "numpy", "matplotlib", "sklearn", "PIL"}
"""What a lesson may import, beside this library and the standard library."""
ROW = re.compile(r"^\| .+ \| [1-6] \| \[`(?P<code>.+)`\]\((?P<file>[^)#]+)#L(?P<line>\d+)\) \|$")
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>\n\n.*?```python\n.+?```\s*</details>", re.DOTALL)


@cache
def cells(lesson: Path) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in jupytext.read(lesson).cells]


def rendered(lesson: Path) -> dict[str, Any]:
    return json.loads(lesson.with_suffix(".ipynb").read_text(encoding="utf-8"))


def test_there_are_six_lessons() -> None:
    assert [lesson.name[0] for lesson in LESSONS] == list("123456")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_the_notebook_holds_the_source_and_its_images(lesson: Path) -> None:
    notebook = rendered(lesson)
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert found == cells(lesson), f"{lesson.name} has changed: run `python course/run.py {lesson.name[0]} --write`"
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs) >= 3


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_notebook_shows_no_path_of_the_machine_that_made_it(lesson: Path) -> None:
    assert not re.search(r"/(work|root|home|tmp)/", lesson.with_suffix(".ipynb").read_text(encoding="utf-8"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_claims_something_and_says_why(lesson: Path) -> None:
    code = "\n".join(source for kind, source in cells(lesson) if kind == "code")
    claims = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    assert claims, "a lesson ends in a measured claim"
    assert all(claim.msg is not None for claim in claims), "an assert says what it means when it fails"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_has_three_exercises_with_hidden_solutions(lesson: Path) -> None:
    text = "\n\n".join(source for kind, source in cells(lesson) if kind == "markdown")
    solutions = SOLUTION.findall(text)
    assert len(solutions) == text.count("<details>") == 3
    for solution in solutions:
        ast.parse(solution.split("```python\n")[1].split("```")[0])


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_is_built_from_public_names_alone(lesson: Path) -> None:
    tree = ast.parse(lesson.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules, names = [alias.name for alias in node.names], []
        elif isinstance(node, ast.ImportFrom):
            modules, names = [node.module or ""], [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            modules, names = [], [] if node.attr.startswith("__") else [node.attr]
        else:
            continue
        assert not [name for name in names if name.startswith("_")], ast.unparse(node)
        for module in modules:
            top = module.split(".")[0]
            assert top in OTHERS | {"captionless"} or top in sys_names(), f"{module} is neither public nor common"
            assert not any(part.startswith("_") for part in module.split(".") if part != "__future__")


def sys_names() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


def rows() -> list[re.Match[str]]:
    text = (COURSE / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| the line that does it |") :].splitlines()[2:]
    found = [ROW.match(line) for line in table if line.strip()]
    assert all(found), "a row of the table is not of the form | concept | lesson | [`code`](file#Lnumber) |"
    return [row for row in found if row]


def test_the_table_of_concepts_covers_every_lesson() -> None:
    text = (COURSE / "README.md").read_text(encoding="utf-8")
    assert {line.split("|")[2].strip() for line in text.splitlines() if ROW.match(line)} == set("123456")


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{Path(row['file']).stem}-{row['code'][:30]}")
def test_every_concept_stands_in_the_line_that_the_table_names(row: re.Match[str]) -> None:
    lines = (COURSE / row["file"]).read_text(encoding="utf-8").splitlines()
    number = int(row["line"])
    now = [i for i, line in enumerate(lines, 1) if row["code"] in line]
    assert number in now, f"course/README.md says line {number} of {row['file']}; the code stands in {now or 'no line'}"
