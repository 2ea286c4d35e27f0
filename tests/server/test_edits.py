"""Edits and variations: files and data URLs, masks whose transparent area is replaced, and no addresses."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image, ImageChops
from starlette import formparsers

from captionless.conditioning.composition import Composition
from captionless.data.crop import crop_square
from captionless.generation.editing import Edit
from server_cases import SAMPLING, Served, data_url, generator, pixels, png, serving

PHOTO, MASK = png(), png(mode="RGBA")
SEED = {"seed": 3}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


def image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def wanted(strength: float | None = None, mask: bool = False) -> np.ndarray:
    # Ours are white where an image is to be replaced.
    white = ImageChops.invert(image(MASK).getchannel("A")) if mask else None
    (made,) = generator().generate("a rose", seed=3, sampling=SAMPLING, edit=Edit(image(PHOTO), strength, white))
    return np.asarray(made).astype(int)


def test_an_edit_is_that_of_the_library(served: Served) -> None:
    answer = served.client().images.edit(
        image=("photo.png", PHOTO), prompt="a rose", extra_body={**SEED, "strength": 0.5}
    )
    assert answer.data
    assert np.abs(pixels(answer.data[0].b64_json or "") - wanted(0.5)).max() <= 1


def test_the_transparent_part_of_a_mask_is_replaced(served: Served) -> None:
    answer = served.client().images.edit(
        image=("photo.png", PHOTO), mask=("mask.png", MASK), prompt="a rose", extra_body=SEED
    )
    assert answer.data
    got = pixels(answer.data[0].b64_json or "")
    assert np.abs(got - wanted(mask=True)).max() <= 1
    changed = np.abs(got - np.asarray(crop_square(image(PHOTO), 8)).astype(int))
    assert changed[:, 4:].max() <= 1
    assert changed[:, :4].mean() > 10


@pytest.mark.parametrize(
    "fields",
    [
        {"image": data_url(PHOTO)},
        {"image": [data_url(PHOTO)]},
        {"images": [{"image_url": data_url(PHOTO)}]},
    ],
    ids=["image", "list", "objects"],
)
def test_json_with_data_urls_is_the_same_edit(served: Served, fields: dict[str, Any]) -> None:
    answer = served.post("edits", prompt="a rose", mask={"image_url": data_url(MASK)}, **SEED, **fields)
    assert np.abs(pixels(answer.json()["data"][0]["b64_json"]) - wanted(mask=True)).max() <= 1


def test_a_list_of_one_image_is_accepted_as_the_client_sends_it(served: Served) -> None:
    """The client names the field ``image[]`` then, which another server ignored (Aquiles-Image #3)."""
    answer = served.client().images.edit(image=[("photo.png", PHOTO)], prompt="a rose", extra_body=SEED)
    assert answer.data
    assert np.abs(pixels(answer.data[0].b64_json or "") - wanted()).max() <= 1


def test_no_upload_is_left_open(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    kind = formparsers.SpooledTemporaryFile
    monkeypatch.setattr(formparsers, "SpooledTemporaryFile", lambda **given: opened.append(kind(**given)) or opened[-1])
    served.client().images.edit(image=("photo.png", PHOTO), prompt="a rose")
    (file,) = opened
    assert file.closed


def test_an_edit_is_streamed_as_an_edit(served: Served) -> None:
    events = list(served.client().images.edit(image=("a.png", PHOTO), prompt="a rose", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_variation_is_an_edit_whose_prompt_is_the_image(served: Served) -> None:
    answer = served.client().images.create_variation(image=("photo.png", PHOTO), n=2, extra_body=SEED)
    expected = generator().generate(
        "", n=2, seed=3, sampling=SAMPLING, edit=Edit(image(PHOTO)), composition=Composition(like=image(PHOTO))
    )
    assert answer.data
    for got, made in zip(answer.data, expected, strict=True):
        assert np.abs(pixels(got.b64_json or "") - np.asarray(made)).max() <= 1


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/secret.png",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://example.com/a.png",
        {"file_id": "file-1"},
        {"image_url": "http://169.254.169.254/latest"},
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        7,
    ],
    ids=str,
)
def test_no_address_path_or_file_id_is_opened(served: Served, address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("a file was opened"))
    for field in ("image", "mask"):
        answer = served.post("edits", prompt="a rose", **{"image": data_url(PHOTO), field: address})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == field


def tiff() -> bytes:
    file = io.BytesIO()
    image(PHOTO).save(file, "TIFF")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 white pixels, in about 100 kB."""
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [("tiff", tiff()), ("bomb", bomb()), ("empty", b""), ("text", b"hello"), ("cut", PHOTO[:60]), ("head", PHOTO[:8])],
    ids=["tiff", "bomb", "empty", "text", "cut", "head"],
)
def test_a_file_that_is_no_small_png_jpeg_or_webp_is_a_bad_request(served: Served, name: str, data: bytes) -> None:
    with pytest.raises(openai.BadRequestError):
        served.client().images.edit(image=(f"{name}.png", data), prompt="a rose")


def test_masks_that_change_nothing_or_do_not_fit_are_bad_requests(served: Served) -> None:
    for mask, reason in ((PHOTO, "no transparent area"), (png((9, 9), "RGBA"), "9 x 9")):
        with pytest.raises(openai.BadRequestError, match=reason) as wrong:
            served.client().images.edit(image=("a.png", PHOTO), mask=("m.png", mask), prompt="a rose")
        assert wrong.value.param == "mask"


@pytest.mark.parametrize("prompt", ["a rose", " "], ids=["prompt", "no prompt"])
def test_further_images_are_reference_images(served: Served, prompt: str) -> None:
    others = [png(seed=1), png((40, 9), seed=2)]
    files = [(f"{i}.png", data) for i, data in enumerate([PHOTO, *others])]
    answer = served.client().images.edit(image=files, prompt=prompt, extra_body=SEED)
    composition = Composition(like=[image(data) for data in others])
    (made,) = generator().generate(prompt, seed=3, sampling=SAMPLING, edit=Edit(image(PHOTO)), composition=composition)
    assert answer.data
    got = pixels(answer.data[0].b64_json or "")
    assert np.abs(got - np.asarray(made)).max() <= 1
    assert np.abs(got - wanted()).max() > 1


def test_edits_need_an_image_and_at_most_sixteen(served: Served) -> None:
    missing = served.post("edits", prompt="a rose")
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "image")
    with pytest.raises(openai.BadRequestError, match="Send 16 at most") as many:
        served.client().images.edit(image=[("a.png", PHOTO)] * 17, prompt="a rose")
    assert many.value.param == "image"
    assert served.post("edits", prompt="a rose", image=data_url(PHOTO), mask=[data_url(MASK)] * 2).status_code == 400


def test_a_request_larger_than_the_limit_is_rejected_before_it_is_read() -> None:
    with serving(max_upload=1) as served:
        answer = served.post("edits", prompt="a rose", image="x" * 1_100_000)
        assert answer.status_code == 413
        chunks = (b"x" * 100_000 for _ in range(20))  # no length is announced
        headers = {"content-type": "application/json"}
        try:
            late = httpx2.post(f"{served.url}/v1/images/edits", content=chunks, headers=headers)
        except httpx2.TransportError:
            pass  # the server hung up while the client was still sending
        else:
            assert late.status_code == 413
        served.wait(places=0)
        assert served.post("generations", prompt="a rose").status_code == 200
