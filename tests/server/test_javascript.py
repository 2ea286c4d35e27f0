"""The official JavaScript client, where Node and its package are installed (npm install openai; set NODE_PATH)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from server_cases import SAMPLING, generator, pixels, png, serving

PACKAGES = Path(os.environ.get("NODE_PATH", "node_modules")).resolve()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
    pytest.mark.skipif(
        not (PACKAGES / "openai").is_dir(), reason="the npm package openai is neither in NODE_PATH nor in node_modules"
    ),
]


def test_the_official_javascript_client_is_served(tmp_path: Path) -> None:
    # Node finds the packages of modules in a folder beside them.
    shutil.copy(Path(__file__).with_name("client.mjs"), tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    images = [base64.b64encode(data).decode() for data in (png(), png(mode="RGBA"))]
    with serving() as served:
        command = ["node", "client.mjs", served.url, *images]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["models"] == ["tiny"]
    expected = generator().generate("a rose", n=2, seed=7, sampling=SAMPLING)
    for image, wanted in zip(results["generated"], expected, strict=True):
        assert np.abs(pixels(image) - np.asarray(wanted)).max() <= 1
    assert len(results["edited"]) == 1
    assert results["events"] == ["image_generation.partial_image", "image_generation.completed"]
    assert results["bad"] == {"name": "BadRequestError", "status": 400, "code": "invalid_value", "param": "prompt"}
    assert results["missing"]["name"] == "NotFoundError"
