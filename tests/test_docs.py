"""The documentation matches the code: commands, options, links and pinned versions."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import typer.main

from captionless.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/**/README.md")]
PAGES = sorted({page for page in PAGES if not {"shared", "node_modules", ".venv", "build"} & set(page.parts)})
CODE = [page for page in PAGES if "\n```python\n" in page.read_text(encoding="utf-8")]
CODE = [page for page in CODE if page.name not in ("serve.md", "export.md")]  # which need a server, an exported model
"""The pages whose Python code runs as it stands."""


def commands() -> Iterator[tuple[str, str]]:
    """Yield every `captionless …` command line of the documentation, with the page it stands on."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("-m captionless", "captionless")
        lines = [line for line in text.splitlines() if line.startswith("    ")]
        # A command in backticks may be broken over two lines.
        lines += [" ".join(code.split()) for code in re.findall(r"`(captionless [^`]+)`", text)]
        for line in lines:
            for found in re.findall(r"captionless [a-z]+ [^|]*", line.split("#")[0]):
                yield str(page.relative_to(ROOT)), found.split("&&")[0].strip()


def names(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


@pytest.mark.parametrize(("page", "line"), dict.fromkeys(commands()))
def test_every_documented_option_exists(page: str, line: str) -> None:
    _, name, *arguments = shlex.split(line, posix=True)
    listed = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert name in listed, f"{page}: there is no command {name}"
    options = [argument.split("=")[0] for argument in arguments if re.match(r"--?[a-z]", argument)]
    assert not set(options) - names(listed[name]), f"{page}: {line}"


def test_the_commands_are_found() -> None:
    assert len(dict.fromkeys(commands())) > 30


def test_the_page_about_python_and_the_reference_name_the_function_of_every_command() -> None:
    functions = {
        "train": "train",
        "generate": "Generator.generate",
        "evaluate": "evaluate",
        "embed": "embed",
        "encoder": "learn_encoder",
        "export": "export",
    }
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {*functions, "autoencoder", "info", "serve"} == set(commands)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in functions.values():
        assert re.search(rf"[`.]{re.escape(name)}`|\b{re.escape(name)}\(", text), name
    places = re.findall(r'"(captionless[.\w]*)": "', (ROOT / "tools" / "docs_site.py").read_text(encoding="utf-8"))
    listed = {one for place in places for one in dir(importlib.import_module(place))}
    assert {name.partition(".")[0] for name in functions.values()} <= listed
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [place for place in places if f"api/{place}.md" not in site]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in local if link and not (page.parent / link).exists()]


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "install.md"], ids=lambda page: page.stem)
def test_the_torch_of_the_constraints_is_installed(page: Path) -> None:
    (pinned,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"pip install torch=={pinned} --index-url https://download.pytorch.org/whl/cpu" in page.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", CODE, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in python_blocks(page):
        exec(block, names)
    if page.name == "python.md":  # its own loop is the library's DDIM
        torch.testing.assert_close(names["x0"], names["images"], atol=1e-3, rtol=0)
        assert (tmp_path / "rose-by-hand.png").exists()


def python_blocks(page: Path) -> list[str]:
    """Return the Python code of a page that can run as it stands."""
    return re.findall(r"^```python\n(.+?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_pages_with_code_are_found() -> None:
    assert {"python", "pytorch", "deploy"} <= {page.stem for page in CODE}


@pytest.mark.parametrize("page", CODE, ids=lambda page: page.stem)
def test_the_code_of_a_page_uses_public_names_only(page: Path) -> None:
    for node in ast.walk(ast.parse("\n".join(python_blocks(page)))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("captionless"):
            module = importlib.import_module(str(node.module))
            public = getattr(module, "__all__", vars(module))
            assert not [alias.name for alias in node.names if alias.name not in public], ast.unparse(node)
