"""Requests generated from the server's own description: none is answered with a 5xx."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from server_cases import serving


def test_the_description_names_the_extensions_and_their_limits() -> None:
    with serving(max_steps=50) as served:
        paths = httpx2.get(f"{served.url}/openapi.json").json()["paths"]
    body = paths["/v1/images/generations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["steps"]["maximum"] == 50
    assert {"seed", "guidance", "sampler", "variety", "negative_prompt"} <= set(body["properties"])


@pytest.mark.slow
def test_no_generated_request_is_answered_with_a_5xx(tmp_path: Path) -> None:
    with serving(max_steps=4, max_size=64) as served:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json"]
        command += ["--checks", "not_a_server_error", "--max-examples", "60", "--seed", "1", "--no-color"]
        environment = {**os.environ, "COLUMNS": "100"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
