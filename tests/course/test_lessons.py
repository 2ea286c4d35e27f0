"""What can be checked of the lessons without running them. `python course/run.py` runs them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import jupytext
import pytest

COURSE = Path(__file__).parents[2] / "course"
LESSONS = sorted(COURSE.glob("[1-9]_*.py"))
OTHERS = {"torch", "numpy", "matplotlib", "sklearn", "PIL"}
"""What a lesson may import besides this library and the standard library."""
PUBLIC = {
    "captionless",
    "captionless.conditioning",
    "captionless.data",
    "captionless.diffusion",
    "captionless.encoders",
    "captionless.evaluation.classifier",
    "captionless.evaluation.metrics",
    "captionless.generation",
    "captionless.models",
}
ROW = re.compile(r"^\| .+ \| (?P<lesson>[1-6]) \| \[`.+`\]\([^)#]+#L\d+\) \|$")
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
def test_a_lesson_imports_public_names_only(lesson: Path) -> None:
    for node in ast.walk(ast.parse(code(lesson))):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr.startswith("__"), ast.unparse(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name == "captionless" or common(alias.name), ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and not common(node.module or ""):
            assert node.module in PUBLIC, f"{node.module} is not a public package"
            module = import_module(node.module)
            public = getattr(module, "__all__", vars(module))
            assert not [alias.name for alias in node.names if alias.name not in public], node.module


def code(lesson: Path) -> str:
    """Return the code of a lesson and of the solutions of its exercises."""
    solutions = SOLUTION.findall("\n\n".join(source for kind, source in cells(lesson) if kind == "markdown"))
    hidden = [solution.split("```python\n")[1].split("```")[0] for solution in solutions]
    return "\n".join([source for kind, source in cells(lesson) if kind == "code"] + hidden)


def common(module: str) -> bool:
    top = module.split(".")[0]
    return top in OTHERS or top in sys.stdlib_module_names


def test_the_table_of_concepts_names_the_lines_of_the_library() -> None:
    result = subprocess.run([sys.executable, str(COURSE / "table.py"), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_table_of_concepts_covers_every_lesson() -> None:
    table = (COURSE / "README.md").read_text(encoding="utf-8").split("| the line that does it |")[1].splitlines()[2:]
    rows = [ROW.match(line) for line in table if line.strip()]
    assert all(rows), "a row of the table is not of the form | concept | lesson | [`code`](file#Lnumber) |"
    assert {row["lesson"] for row in rows if row} == set("123456")
