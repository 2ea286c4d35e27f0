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
from captionless.data.decoder_errors import decoder
from captionless.data.formats import UnusableError, unsupported

# Numbers of tags: TIFF 6.0, and its technical note 3 for the floating-point predictor.
BITS, PHOTOMETRIC = 258, 262
_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _OFFSETS, _ORIENTATION = 254, 256, 257, 259, 273, 274
_SAMPLES, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_SUB_IFDS, _EXTRA, _SAMPLE_FORMAT, _PROFILE, _DNG = 330, 338, 339, 34675, 50706
_SIGNED, _FLOAT, _RGB, _SEPARATE, _DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3, 2, 2, 2, 3


class TiffTags:
    """The tags of the first image in a TIFF file; damage to a tag shows when it is read.

    Raises:
        UnusableError: the file is damaged, or that of a camera's sensor, which begins with a small preview.
    """

    def __init__(self, data: bytes) -> None:
        stream = io.BytesIO(data)
        with decoder():
            self._tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
            stream.seek(self._tags.next)
            self._tags.load(stream)
        if _DNG in self or (self.number(_SUBFILE, 0) & 1 and _SUB_IFDS in self):
            raise unsupported("camera raw")

    def __contains__(self, tag: int) -> bool:
        """Return whether there is such a tag."""
        return tag in self._tags

    def read(self, tag: int) -> Any:
        """Return the value of a tag as Pillow does, or None."""
        with decoder():
            return self._tags.get(tag)

    def numbers(self, tag: int, default: int | None = None) -> tuple[int, ...]:
        """Return the whole numbers of a tag, or the default if there is no such tag.

        Raises:
            UnusableError: the tag is missing or holds something else.
        """
        value = default if (found := self.read(tag)) is None else found
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or not all(isinstance(one, int) and 0 <= one < 1 << 32 for one in numbers):
            raise UnusableError(f"damaged: its TIFF tag {tag} is {'missing' if value is None else 'invalid'}")
        return numbers

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the first of the `numbers` of a tag."""
        return self.numbers(tag, default)[0]

    def unusual_layout(self) -> str:
        """Return what sort of samples the image has if Pillow does not read such; empty if it has the common ones."""
        bits, kind = self.number(BITS, 1), self.number(_SAMPLE_FORMAT, 1)
        if bits in (1, 2, 4, 8, 16) and kind == 1:
            return ""
        return f"a TIFF with {self.number(_SAMPLES, 1)} channels of {bits}-bit {'signed ' * (kind == _SIGNED)}samples"


def float_image(data: bytes, tags: TiffTags, max_pixels: int) -> Image.Image | None:
    """Return the first image in a TIFF file with 8 bits per channel, or None if its samples are integers.

    Raises:
        UnusableError: the image is damaged or has too many pixels, or its layout is not supported.
    """
    if set(tags.numbers(_SAMPLE_FORMAT, 1)) != {_FLOAT}:
        return None
    photometric = tags.number(PHOTOMETRIC) if PHOTOMETRIC in tags else None
    if photometric not in (0, 1, _RGB):
        raise unsupported("a TIFF of floating-point numbers that are neither grey nor RGB")
    samples = _samples(data, tags, max_pixels)
    colours = 3 if photometric == _RGB else 1
    alpha = samples.shape[2] > colours and tags.number(_EXTRA, 0) > 0
    image = floats(samples[..., : colours + alpha], inverted=photometric == 0)
    image.info["icc_profile"] = tags.read(_PROFILE)
    image.getexif()[_ORIENTATION] = tags.number(_ORIENTATION, 1)
    return image


def _samples(data: bytes, tags: TiffTags, max_pixels: int) -> NDArray[np.float32]:
    """Return the samples of an image, float32 (height, width, samples).

    To let libtiff decompress them, the file is described to it as a grey image with a pixel for each byte.
    """
    width, height, bits = tags.number(_WIDTH), tags.number(_HEIGHT), tags.number(BITS)
    samples, predictor, tiled = tags.number(_SAMPLES, 1), tags.number(_PREDICTOR, 1), _TILE_OFFSETS in tags
    rows = tags.number(_TILE_HEIGHT) if tiled else min(tags.number(_ROWS, height), height)
    if 0 in (width, height, samples, rows):
        raise UnusableError("damaged: its TIFF tags describe no pixels")
    if width * height * samples > 4 * max_pixels:
        raise UnusableError(f"too large: {width} x {height} pixels, the limit is {max_pixels:,}")
    planes = samples if tags.number(_PLANAR, 1) == _SEPARATE else 1
    step = bits // 8 * (samples // planes)  # bytes from one pixel to the next
    if bits not in (16, 32, 64) or (tiled and predictor > 1) or (planes > 1 and height % rows):
        raise unsupported("a TIFF of floating-point numbers in an unusual layout")
    layout: dict[int, tuple[int, ...]]
    layout = {_WIDTH: (width * step,), _HEIGHT: (height * planes,), BITS: (8,), PHOTOMETRIC: (1,), _SAMPLES: (1,)}
    layout |= {_COMPRESSION: (tags.number(_COMPRESSION, 1),), _PREDICTOR: (1,)}
    if tiled:
        layout |= {_TILE_WIDTH: (tags.number(_TILE_WIDTH) * step,), _TILE_HEIGHT: (rows,)}
        layout |= {tag: tags.numbers(tag) for tag in (_TILE_OFFSETS, _TILE_COUNTS)}
    else:
        layout |= {_ROWS: (rows,)} | {tag: tags.numbers(tag) for tag in (_OFFSETS, _COUNTS)}
    described = io.BytesIO(_described(data, layout))
    with decoder(), TiffImagePlugin.TiffImageFile(described) as image:  # `open` would count the bytes
        raw = np.asarray(image)
    raw = raw.reshape(planes, height, width * step)
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


def _described(data: bytes, layout: Mapping[int, tuple[int, ...]]) -> bytes:
    """Return a TIFF file with the given tags and, after them, the content of another file, to which they refer."""
    place = 8 + 2 + 12 * len(layout) + 4
    lists = sum(4 * len(values) for values in layout.values() if len(values) > 1)
    entries, more = b"", b""
    for tag, values in sorted(layout.items()):
        if tag in (_OFFSETS, _TILE_OFFSETS):
            values = tuple(value + place + lists for value in values)
        if max(values) >= 1 << 32:
            raise UnusableError(f"damaged: its TIFF tag {tag} is invalid")
        packed = struct.pack(f"<{len(values)}I", *values)
        entries += struct.pack("<HHI", tag, 4, len(values))
        entries += packed if len(values) == 1 else struct.pack("<I", place + len(more))
        more += packed if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(layout)) + entries + bytes(4) + more + data
