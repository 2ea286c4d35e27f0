"""Run the JavaScript of the web page in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

GENERATOR = Path(str(resources.files("captionless") / "exports" / "browser" / "generator"))
PARTS = Path(__file__).parent / "exports" / "parts.mjs"
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def javascript(cases: Sequence[tuple[str, Any]], runtime: Path | None = None) -> list[Any]:
    """Return the answers to cases, each the name of a function in ``parts.mjs`` and what it is given."""
    with tempfile.TemporaryDirectory() as folder:
        # Node takes .js files for modules only where a package says so.
        (Path(folder) / "package.json").write_text('{"type": "module"}')
        generator = shutil.copytree(GENERATOR, Path(folder) / "generator")
        command = ["node", str(PARTS), str(generator), str(runtime or "")]
        done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
