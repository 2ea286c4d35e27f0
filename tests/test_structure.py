"""The shape of the code: small modules, functions that fit a screen, imports that run one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "captionless").rglob("*.py"))
VERBS = {"embed", "evaluate", "train", "generate", "stream"}
"""Public verbs list all that may be given to them, and document it."""
KERNELS = ROOT / "src" / "captionless" / "models" / "fused_kernels.py"
"""Functions of a GPU kernel take pointers, sizes and constants one by one; there are no structures."""


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in (path for path in SOURCES if path != KERNELS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name not in VERBS:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def lacks_line_ends(node: ast.AST) -> bool:
    """Whether a call writes text with the line ends of the system."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    named = {keyword.arg for keyword in node.keywords}
    opened = node.func.attr == "open" and any(isinstance(one, ast.Constant) and one.value == "w" for one in node.args)
    return (node.func.attr == "write_text" or opened) and "newline" not in named


def parameter_count(node: ast.FunctionDef) -> int:
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def test_no_module_is_longer_than_300_lines() -> None:
    assert not [str(path) for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > 300]


def test_functions_fit_a_screen() -> None:
    assert not [name for name, node in functions() if (node.end_lineno or 0) - node.lineno + 1 > 60]


def test_functions_have_few_parameters() -> None:
    assert not [name for name, node in functions() if parameter_count(node) > 8]


def test_text_is_written_alike_on_every_system() -> None:
    """Windows would write other line ends, which double where a file is read as it is and written again."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not [path for path, tree in trees.items() if any(map(lacks_line_ends, ast.walk(tree)))]


def test_imports_run_one_way() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None) == 0
