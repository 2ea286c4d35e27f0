"""What `captionless generate` imports on the way to its first network call: time is lost with every large library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.start import FIRST_CALL

FORBIDDEN = {
    *("transformers", "accelerate", "huggingface_hub", "rich", "jinja2", "sklearn", "scipy", "sympy"),
    *("torch._dynamo", "torch.distributed.tensor", "captionless.training.run", "captionless.evaluation.run"),
}
REPORT = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"


def test_the_first_network_call_is_reached_without_libraries_that_it_does_not_need(tmp_path: Path) -> None:
    command = [sys.executable, "-c", REPORT + FIRST_CALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert {"torch", "tokenizers", "captionless.generation.sample"} <= imported
    assert not imported & FORBIDDEN
    assert not list(tmp_path.glob("*.png"))  # it did end at the first call
