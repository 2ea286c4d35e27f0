"""The contract of generation.image: a result that holds, shows and saves what decided it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.image import GeneratedImage

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def generated(prompt: str = "a röse", **details: Any) -> GeneratedImage:
    return GeneratedImage(Image.fromarray(PIXELS), prompt, 7, SamplingConfig(steps=3), details)


@pytest.mark.parametrize(
    ("prompt", "details", "title", "subtitle"),
    [
        ("a rose", {}, "a rose", "seed 7"),
        ("a rose", {"then": "a daisy"}, "a rose … then a daisy", "seed 7"),
        ("a rose", {"towards": "a daisy", "towards_share": 0.5}, "a rose … towards a daisy", "50% of the way"),
        ("a rose", {"like": "photos/tulip.jpg"}, "a rose", "seed 7"),
        ("", {"like": "photos/tulip.jpg"}, "like tulip.jpg", "seed 7"),
    ],
)
def test_an_image_has_a_title_and_a_subtitle(prompt: str, details: dict[str, Any], title: str, subtitle: str) -> None:
    image = generated(prompt, **details)
    assert (image.title, image.subtitle) == (title, subtitle)
    assert title in repr(image)


def test_a_saved_png_holds_the_metadata_as_text(tmp_path: Path) -> None:
    (tmp_path / "rose.png").write_bytes(b"of before")
    generated(also=[["a daisy", 0.5]]).save(tmp_path / "rose.png")
    with Image.open(tmp_path / "rose.png") as image:
        assert np.array_equal(np.asarray(image), PIXELS)
        wanted = {"prompt": "a röse", "seed": "7", "steps": "3", "also": '[["a daisy", 0.5]]'}
        assert {name: image.info[name] for name in wanted} == wanted


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_other_formats_hold_the_metadata_as_json_in_their_exif_description(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rose{suffix}"
    generated().save(str(path))
    with Image.open(path) as image:
        assert json.loads(image.getexif()[0x010E])["prompt"] == "a röse"


@pytest.mark.parametrize("name", ["rose", "rose.txt"])
def test_a_suffix_without_an_image_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CaptionlessError, match=name):
        generated().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_the_pixels_and_numpy_reads_them() -> None:
    with Image.open(io.BytesIO(generated()._repr_png_())) as image:
        assert np.array_equal(np.asarray(image), PIXELS)
    assert np.array_equal(np.asarray(generated()), PIXELS)
    assert np.asarray(generated(), np.float32).dtype == np.float32
