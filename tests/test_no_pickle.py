"""Nothing is ever unpickled: a model folder from a stranger cannot run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import captionless

SOURCES = sorted(Path(captionless.__file__).parent.rglob("*.py"))
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}
UNPICKLING_CALLS = {
    ("torch", "load"),
    ("torch", "save"),
    ("joblib", "load"),
    ("joblib", "dump"),
    ("pd", "read_pickle"),
    ("pandas", "read_pickle"),
}
UNSAFE_SWITCHES = {"allow_pickle", "trust_remote_code"}


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in PICKLERS)
        elif isinstance(node, ast.ImportFrom):
            home = (node.module or "").split(".")[0]
            names = {name.name for name in node.names}
            if home in PICKLERS or names & PICKLERS or any((home, name) in UNPICKLING_CALLS for name in names):
                yield ast.unparse(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in UNPICKLING_CALLS or node.attr in PICKLERS:
                yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg in UNSAFE_SWITCHES:
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and node.value in PICKLERS:
            yield repr(node.value)  # such as importlib.import_module("pickle")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_file_pickles_or_unpickles(path: Path) -> None:
    assert list(offences(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from torch import load",
        "torch.load('x')",
        "torch.save({}, 'x')",
        "np.load('x', allow_pickle=True)",
        "from_pretrained('x', trust_remote_code=flag)",
        "import_module('dill')",
        "from multiprocessing.reduction import pickle",
    ],
)
def test_this_test_would_notice(line: str) -> None:
    assert list(offences(ast.parse(line)))
