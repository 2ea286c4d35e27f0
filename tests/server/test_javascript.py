"""The official JavaScript client, where Node and the registry of its packages are at hand."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from server_cases import SAMPLING, failing_generator, generator, pixels, png, serving

OPENAI = "openai@7.59.0"
KEY = "sk-a-key-of-some-length"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node or npm is not installed"),
]


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """The program beside the package that it needs."""
    (tmp_path / "package.json").write_text("{}")
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", OPENAI]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"{OPENAI} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return Path(shutil.copy(Path(__file__).with_name("client.mjs"), tmp_path))


def test_the_official_javascript_client_is_served(client: Path) -> None:
    photo, mask = (base64.b64encode(data).decode() for data in (png(), png(mode="RGBA")))
    with ExitStack() as stack:
        served, guarded, busy = (stack.enter_context(serving(key=key)) for key in (None, KEY, None))
        failing = stack.enter_context(serving({"tiny": failing_generator(2)}))
        busy.service.scheduler.places = 0
        arguments = {"url": served.url, "guarded": guarded.url, "busy": busy.url, "failing": failing.url}
        arguments |= {"key": KEY, "photo": photo, "mask": mask}
        done = subprocess.run(["node", client, json.dumps(arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["models"] == ["tiny"]
    expected = generator().generate("a rose", n=2, seed=7, sampling=SAMPLING)
    for image, wanted in zip(results["generated"], expected, strict=True):
        assert np.abs(pixels(image) - np.asarray(wanted)).max() <= 1
    one, two = results["edited"]
    assert len(one) == len(two) == results["varied"] == results["key"] == results["repeated"] == 1
    assert one != two  # the second image counts
    assert results["events"] == ["image_generation.partial_image", "image_generation.completed"]
    assert [(error["name"], error["status"]) for error in results["errors"]] == [
        ("BadRequestError", 400),
        ("AuthenticationError", 401),
        ("PermissionDeniedError", 403),
        ("NotFoundError", 404),
        ("RateLimitError", 429),
        ("InternalServerError", 500),
    ]
    assert results["errors"][0] | {"code": "invalid_value", "param": "prompt"} == results["errors"][0]
