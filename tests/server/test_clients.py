"""Requests in the form in which well-known clients send them: accepted, and answered with what these clients read."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image

from server_cases import Served, png, serving

PHOTO = png((20, 12))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


def size(image: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(image))).size


JSON: dict[str, dict[str, Any]] = {
    "Open WebUI": {"model": "dall-e-2", "prompt": "a rose", "n": 1, "size": "512x512", "response_format": "b64_json"},
    "Open WebUI, GPT image": {"model": "gpt-image-1", "prompt": "a rose", "n": 1, "size": "1024x1024"},
    "LibreChat": {
        "model": "gpt-image-1",
        "prompt": "a rose",
        "n": 1,
        "background": "auto",
        "output_format": "png",
        "quality": "auto",
        "size": "auto",
    },
    "LibreChat, WebP": {
        "model": "gpt-image-1",
        "prompt": "a rose",
        "n": 1,
        "background": "auto",
        "output_format": "webp",
        "output_compression": 100,
        "quality": "high",
        "size": "1536x1024",
    },
    "SillyTavern": {
        "prompt": "a rose",
        "model": "dall-e-3",
        "size": "1024x1024",
        "n": 1,
        "quality": "standard",
        "style": "vivid",
        "response_format": "b64_json",
    },
    "SillyTavern, GPT image": {
        "prompt": "a rose",
        "model": "gpt-image-1",
        "size": "1024x1536",
        "n": 1,
        "quality": "high",
        "moderation": "low",
    },
    "n as text and nulls": {"prompt": "a rose", "n": "1", "size": None, "user": None, "seed": None, "stream": False},
}


@pytest.mark.parametrize("client", JSON)
def test_generations(served: Served, client: str) -> None:
    fields = JSON[client]
    headers = {"authorization": "Bearer sk-anything", "x-openwebui-user-name": "somebody"}
    # Open WebUI appends a version if one is set.
    url = f"{served.url}/v1/images/generations?api-version=2025-04-01"
    answer = httpx2.post(url, json=fields, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["data"]
    width, height = map(int, (fields["size"] or "8x8").replace("auto", "8x8").split("x"))
    assert size(image["b64_json"]) == (width, height)
    assert "url" not in image


FORMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "Open WebUI": ({"model": "gpt-image-1", "prompt": "a rose", "n": "1", "size": "512x512"}, ["image"]),
    "Open WebUI, several images": (
        {"model": "dall-e-2", "prompt": "a rose", "n": "1", "response_format": "b64_json"},
        ["image[]"] * 2,
    ),
    "LibreChat": ({"model": "gpt-image-1", "prompt": "a rose", "quality": "auto", "size": "auto"}, ["image[]"]),
    "LibreChat, several images": (
        {"model": "gpt-image-1", "prompt": "a rose", "quality": "auto", "size": "auto"},
        ["image[]"] * 3,
    ),
    "a form whose fields were left empty": ({"prompt": "a rose", "n": "", "size": "", "user": ""}, ["image"]),
}


@pytest.mark.parametrize("client", FORMS)
def test_edits(served: Served, client: str) -> None:
    fields, names = FORMS[client]
    files = [(name, ("photo.png", PHOTO, "image/png")) for name in names]
    answer = httpx2.post(f"{served.url}/v1/images/edits", data=fields, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    assert size(answer.json()["data"][0]["b64_json"])[0] in (8, 512)
