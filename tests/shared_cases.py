"""The folder of small inputs that once went wrong, which lies beside the repository where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[2] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"the folder of cases {CASES} is not there")


def make_cases(folder: Path) -> Path:
    """Make in a folder the inputs that are made by scripts."""
    subprocess.run(["sh", CASES / "make_links.sh", folder / "links"], check=True)
    for name in ("names", "large"):
        subprocess.run([sys.executable, CASES / f"make_{name}.py", folder / name], check=True)
    return folder
