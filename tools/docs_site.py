"""Hooks of mkdocs: show pages and files from outside ``docs``, and make the API reference.

In the repository, the links of Markdown files are relative to these files, as GitHub wants them. The site has ``docs``
as its root, beside the pages of other folders that ``mkdocs.yml`` names. So each link is rewritten to lead to the same
file there; a linked file that is no page is part of the site as it is.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = {
    "captionless": "Everyday use",
    "captionless.generation": "Generation",
    "captionless.diffusion": "Diffusion",
    "captionless.models": "Networks",
    "captionless.conditioning": "Conditions",
    "captionless.encoders": "Encoders",
    "captionless.data": "Images",
    "captionless.evaluation.metrics": "Metrics",
    "captionless.evaluation.classifier": "Classifier",
    "captionless.exports": "Exports",
}
"""The public packages, in the order in which a reader meets them, and the titles of their pages."""
LINK = re.compile(r"(?<=\]\()([^)#\s]+)")
NESTED = re.compile(r"^(?:   )+(?=\d+\. )", re.MULTILINE)
"""The indent of a nested ordered list: three spaces a level as GitHub reads it, four as Python-Markdown does."""


def on_files(files: Files, *, config: Any) -> Files:
    """Add the API reference, the pages of the navigation that lie outside ``docs``, and linked files."""
    for package, title in PACKAGES.items():
        files.append(File.generated(config, f"api/{package}.md", content=reference(package, title)))
    for uri in named_pages(config.nav):
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / uri)))
    for page in list(files.documentation_pages()):
        for _, target in links(page, page.content_string):
            if files.get_file_from_path(place(target)) is None:
                files.append(File.generated(config, place(target), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let the links of a page lead to the places that the files have on the site, and nest its lists."""
    folder = posixpath.dirname(page.file.src_uri)
    moved = {link: posixpath.relpath(place(target), folder) for link, target in links(page.file, markdown)}
    markdown = NESTED.sub(lambda found: len(found[0]) // 3 * "    ", markdown)
    return LINK.sub(lambda found: moved.get(found[0], found[0]), markdown)


def links(page: File, markdown: str) -> Iterator[tuple[str, Path]]:
    """Yield each link of a page to a file of the repository, and the path of that file."""
    if page.abs_src_path:
        for link in LINK.findall(markdown):
            target = Path(posixpath.normpath(Path(page.abs_src_path).parent / unquote(link)))
            if target.is_file() and target.is_relative_to(ROOT):
                yield link, target


def place(path: Path) -> str:
    """Return the path of a file of the repository within the site's sources."""
    return path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()


def named_pages(nav: Any) -> Iterator[str]:
    """Yield the paths of all pages in the navigation."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from named_pages(part)


def reference(package: str, title: str) -> str:
    """Return a page with the docstrings of a package and of all public names that it imports from its modules."""
    tree = ast.parse((ROOT / "src" / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and re.match(r"captionless\.[a-z]", str(node.module))
        for alias in node.names
    ]
    introduction = f"# {title}\n\n`import {package}`\n\n"
    introduction += "`**settings` are keyword arguments that [the settings](../settings.md) list.\n\n"
    introduction += f"::: {package}\n"
    introduction += "    options: {members: false, show_root_heading: false}\n"
    return introduction + "".join(f"\n::: {package}.{name}\n" for name in sorted(set(names), key=str.lower))
