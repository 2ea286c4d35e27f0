"""Read TIFF files of floating-point samples, which Pillow does not open or opens only in grey."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from captionless.data.colour import floats
from captionless.data.formats import UnusableError, unsupported

# Numbers of tags: TIFF 6.0, and its technical note 3 for the floating-point predictor.
BITS, PHOTOMETRIC = 258, 262
_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _OFFSETS, _ORIENTATION = 254, 256, 257, 259, 273, 274
_SAMPLES, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_SUB_IFDS, _EXTRA, _SAMPLE_FORMAT, _PROFILE, _DNG = 330, 338, 339, 34675, 50706
_FLOAT, _RGB, _SEPARATE, _DIFFERENCES, _FLOAT_DIFFERENCES = 3, 2, 2, 2, 3


def tiff_tags(data: bytes) -> Mapping[int, Any]:
    """Return the tags of the first image in a TIFF file.

    Raises:
        UnusableError: the file is that of a camera's sensor, which begins with a small preview.
    """
    stream = io.BytesIO(data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
    stream.seek(tags.next)
    tags.load(stream)
    if _DNG in tags or (tags.get(_SUBFILE, 0) & 1 and _SUB_IFDS in tags):
        raise unsupported("camera raw")
    return tags


def float_image(data: bytes, tags: Mapping[int, Any], max_pixels: int) -> Image.Image | None:
    """Return the first image in a TIFF file with 8 bits per channel, or None if its samples are integers.

    Raises:
        UnusableError: the image has too many pixels, or its layout is not supported.
    """
    if set(tags.get(_SAMPLE_FORMAT, ())) != {_FLOAT}:
        return None
    if tags.get(PHOTOMETRIC) not in (0, 1, _RGB):
        raise unsupported("a TIFF of floating-point numbers that are neither grey nor RGB")
    samples = _samples(data, tags, max_pixels)
    colours = 3 if tags.get(PHOTOMETRIC) == _RGB else 1
    alpha = samples.shape[2] > colours and tags.get(_EXTRA, (0,))[0] > 0
    image = floats(samples[..., : colours + alpha], inverted=tags.get(PHOTOMETRIC) == 0)
    image.info["icc_profile"] = tags.get(_PROFILE)
    image.getexif()[_ORIENTATION] = tags.get(_ORIENTATION, 1)
    return image


def _samples(data: bytes, tags: Mapping[int, Any], max_pixels: int) -> NDArray[np.float32]:
    """Return the samples of an image, float32 (height, width, samples).

    To let libtiff decompress them, the file is described to it as a grey image with a pixel for each byte.
    """
    width, height, bits, samples = tags[_WIDTH], tags[_HEIGHT], tags[BITS][0], tags.get(_SAMPLES, 1)
    if width * height * samples > 4 * max_pixels:
        raise UnusableError(f"too large: {width} x {height} pixels, the limit is {max_pixels:,}")
    planes, predictor = samples if tags.get(_PLANAR) == _SEPARATE else 1, tags.get(_PREDICTOR, 1)
    step = bits // 8 * (samples // planes)  # bytes from one pixel to the next
    rows = min(tags.get(_ROWS, height), height)
    tiled = _TILE_OFFSETS in tags
    whole = planes == 1 or height % (tags[_TILE_HEIGHT] if tiled else rows) == 0
    if bits not in (16, 32, 64) or (tiled and predictor > 1) or not whole:
        raise unsupported("a TIFF of floating-point numbers in an unusual layout")
    layout = {_WIDTH: [width * step], _HEIGHT: [height * planes], BITS: [8], _COMPRESSION: [tags.get(_COMPRESSION, 1)]}
    layout |= {PHOTOMETRIC: [1], _SAMPLES: [1], _PREDICTOR: [1]}
    if tiled:
        layout |= {_TILE_WIDTH: [tags[_TILE_WIDTH] * step], _TILE_HEIGHT: [tags[_TILE_HEIGHT]]}
        layout |= {_TILE_OFFSETS: [*tags[_TILE_OFFSETS]], _TILE_COUNTS: [*tags[_TILE_COUNTS]]}
    else:
        layout |= {_ROWS: [rows], _OFFSETS: [*tags[_OFFSETS]], _COUNTS: [*tags[_COUNTS]]}
    with TiffImagePlugin.TiffImageFile(io.BytesIO(_described(data, layout))) as image:  # `open` would count the bytes
        raw = np.asarray(image).reshape(planes, height, width * step)
    order = ">" if data[:2] == b"MM" or predictor == _FLOAT_DIFFERENCES else "<"
    values = _undone(raw, predictor, samples // planes, bits // 8, order).reshape(planes, height, width, -1)
    return np.concatenate([*values], axis=-1).astype(np.float32)


def _undone(raw: NDArray[np.uint8], predictor: int, samples: int, size: int, order: str) -> NDArray[Any]:
    """Return rows of floats from rows of bytes, after undoing the differences that compression stores.

    The floating-point predictor stores the first bytes of all samples of a row, then the second ones and so on, each
    as the difference to the byte ``samples`` before it; predictor 2 stores differences of samples as integers.
    """
    if predictor == _FLOAT_DIFFERENCES:
        sums = raw.reshape(*raw.shape[:2], -1, samples).cumsum(axis=2, dtype=np.uint8)
        raw = np.ascontiguousarray(sums.reshape(*raw.shape[:2], size, -1).swapaxes(2, 3)).reshape(raw.shape)
    elif predictor == _DIFFERENCES:
        whole = raw.view(f"{order}u{size}").reshape(*raw.shape[:2], -1, samples)
        raw = (
            whole.cumsum(axis=2, dtype=f"u{size}").astype(f"{order}u{size}").reshape(*raw.shape[:2], -1).view(np.uint8)
        )
    return raw.view(f"{order}f{size}")


def _described(data: bytes, layout: Mapping[int, list[int]]) -> bytes:
    """Return a TIFF file with the given tags and, after them, the content of another file, to which they refer."""
    place = 8 + 2 + 12 * len(layout) + 4
    lists = sum(4 * len(values) for values in layout.values() if len(values) > 1)
    entries, more = b"", b""
    for tag, values in sorted(layout.items()):
        if tag in (_OFFSETS, _TILE_OFFSETS):
            values = [value + place + lists for value in values]
        packed = struct.pack(f"<{len(values)}I", *values)
        entries += struct.pack("<HHI", tag, 4, len(values))
        entries += packed if len(values) == 1 else struct.pack("<I", place + len(more))
        more += packed if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(layout)) + entries + bytes(4) + more + data
