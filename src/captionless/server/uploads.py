"""Read the body of a request: JSON or a form, with images as files or data URLs. No path or URL is ever opened."""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from fastapi import Request
from PIL import Image, ImageChops
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from captionless.data.decode import BACKGROUND, decode_quietly, flatten
from captionless.data.formats import HEAD, UnusableError, image_format
from captionless.errors import CaptionlessError

MAX_PIXELS = 25_000_000
"""Images with more pixels are rejected."""
MAX_IMAGES = 16
ACCEPTED = ("PNG", "JPEG", "WEBP")
"""The formats of images, by their names in Pillow."""
MOST_VALUES = 10_000
"""Values of a JSON body, so that it is read in a moment; it needs a hundred."""
PIECE = 2**18
"""Characters of base64 that are decoded at a time; other threads, among them that of the event loop, run in between."""
FIELDS = dict.fromkeys(("image", "image[]", "images", "images[]"), "image") | {"mask": "mask", "like": "like"}
"""The fields that hold images."""


@dataclass
class Body:
    """The content of a request: its fields, and the files of the images, the mask and the reference image."""

    fields: dict[str, Any] = field(default_factory=dict)
    image: list[bytes] = field(default_factory=list)
    mask: list[bytes] = field(default_factory=list)
    like: list[bytes] = field(default_factory=list)

    @property
    def photo(self) -> bytes:
        """The file of the first image, which must be there."""
        if not self.image:
            raise CaptionlessError("`image` is missing. Send an image.", parameter="image")
        return self.image[0]


async def read_body(request: Request) -> Body:
    """Read a request.

    Raises:
        CaptionlessError: it is neither JSON nor a form, is compressed, or holds an image in an unknown form.
    """
    if (coding := request.headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
        raise CaptionlessError(
            f"the body is encoded (Content-Encoding: {coding}). Send it as it is, without this header.",
            code="unsupported_content_encoding",
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        pairs = await _form(request)
    elif kind == "application/json":
        pairs = await asyncio.to_thread(_json, await request.body())
    else:
        raise CaptionlessError(
            "the content type must be application/json or multipart/form-data.", code="unsupported_content_type"
        )
    return await asyncio.to_thread(_sorted, pairs)


class _Form(MultiPartParser):
    """Keeps uploads in memory, whose size is limited, so that it does not matter whether the disk is full."""

    spool_max_size = 0  # never written to the disk


async def _form(request: Request) -> list[tuple[str, Any]]:
    try:
        form = await _Form(request.headers, request.stream(), max_files=MAX_IMAGES + 2, max_fields=100).parse()
    except MultiPartException as error:
        raise CaptionlessError(f"the form is invalid ({error.message}).", code="invalid_form") from error
    # An empty field of a form is one that was not filled in.
    pairs = [(name, value) for name, value in form.multi_items() if value != ""]
    read = [(name, await value.read() if isinstance(value, UploadFile) else value) for name, value in pairs]
    await form.close()
    return read


def _json(body: bytes) -> list[tuple[str, Any]]:
    try:
        if body.count(b",") > MOST_VALUES:
            raise ValueError("too many values")
        fields = pydantic_core.from_json(body)
    except ValueError as error:
        raise CaptionlessError(f"the body is not valid JSON ({error}).", code="invalid_json") from error
    if not isinstance(fields, dict):
        raise CaptionlessError("the body must be a JSON object.", code="invalid_json")
    lists = {name: value if name in FIELDS and isinstance(value, list) else [value] for name, value in fields.items()}
    return [(name, each) for name, values in lists.items() for each in values]


def _sorted(pairs: list[tuple[str, Any]]) -> Body:
    body = Body()
    for name, value in pairs:
        if (place := FIELDS.get(name)) is None:
            body.fields[name] = value
        elif value is not None:
            getattr(body, place).append(value if isinstance(value, bytes) else _data_url(value, place))
    for place, most in {"image": MAX_IMAGES, "mask": 1, "like": 1}.items():
        if len(getattr(body, place)) > most:
            raise CaptionlessError(f"there are too many of `{place}`. Send {most} at most.", parameter=place)
    return body


def _data_url(value: Any, place: str) -> bytes:
    """Decode a data URL, or an object that holds one as ``image_url``."""
    text = value.get("image_url") if isinstance(value, dict) else value
    head, comma, data = text.partition(",") if isinstance(text, str) else ("", "", "")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise CaptionlessError(
            f"`{place}` must be a file or a data URL (data:image/png;base64,…). Other URLs, paths and file ids are not "
            "opened.",
            parameter=place,
        )
    try:
        return b"".join(base64.b64decode(data[i : i + PIECE], validate=True) for i in range(0, len(data), PIECE))
    except (binascii.Error, ValueError) as error:
        raise CaptionlessError(f"`{place}` is not valid base64.", parameter=place) from error


def read_photo(data: bytes, background: str = BACKGROUND, place: str = "image") -> Image.Image:
    """Decode the image to edit or to refer to; transparent areas get the background colour."""
    return flatten(_decode(data, place), background)


def read_mask(data: bytes) -> Image.Image:
    """Decode a mask whose transparent areas are to be replaced; return one whose white areas are."""
    mask = _decode(data, "mask")
    if mask.mode != "RGBA":
        raise CaptionlessError(
            "`mask` has no transparent area, so nothing would change. Make what is to be replaced transparent.",
            parameter="mask",
        )
    return ImageChops.invert(mask.getchannel("A"))


def _decode(data: bytes, place: str) -> Image.Image:
    try:
        accepted = image_format(data[:HEAD]) in ACCEPTED
    except UnusableError:
        accepted = False
    if not accepted:
        raise CaptionlessError(f"`{place}` must be a PNG, JPEG or WebP file.", parameter=place)
    image, _ = decode_quietly(data, max_pixels=MAX_PIXELS)
    if isinstance(image, str):
        raise CaptionlessError(f"`{place}` cannot be used: {image}.", parameter=place)
    return image
