"""The contract of generation.image: a result that holds, shows and saves what decided it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_saved_image_is_read_with_all_that_decided_it(suffix: str, tmp_path: Path) -> None:
    config = SamplingConfig(steps=3, sampler="unipc", guidance_interval=(0.1, 0.9), spacing="karras")
    details = {"model": "7", "also": [["a daisy", 0.5]], "towards_share": 0.5, "version": "1.0"}
    image = GeneratedImage(Image.fromarray(PIXELS), "12", 7, config, details)
    image.save(tmp_path / f"rose{suffix}")
    again = GeneratedImage.open(tmp_path / f"rose{suffix}")
    assert again.metadata == image.metadata
    assert (again.config, again.details) == (config, details)
    if suffix == ".png":
        assert np.array_equal(np.asarray(again), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "text"])
def test_a_file_without_prompt_and_seed_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    if kind == "text":
        path.write_text("a rose")
    else:
        info = PngInfo()
        info.add_text("prompt", "a prompt of another program")
        Image.fromarray(PIXELS).save(path, kind, pnginfo=info)
    with pytest.raises(CaptionlessError, match=r"photo\.png"):
        GeneratedImage.open(path)


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
