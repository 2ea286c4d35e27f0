"""Files of every kind that people keep in folders of pictures, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

RED, BLUE = (254, 0, 0), (0, 0, 254)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plain(color: tuple[int, int, int] = RED, size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.new("RGB", size, color)


def noise(size: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def png(width: int, height: int, bits: int, kind: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG from its parts (Pillow cannot write all that exist); ``kind`` is the colour type of the standard."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def bomb() -> bytes:
    """A hundred bytes that claim to be 20,000 x 20,000 pixels."""
    return png(20_000, 20_000, 8, 2, b"\0" * 10)


def shouting_tiff() -> bytes:
    """A TIFF whose damaged JPEG strips make libtiff print to the standard error."""
    data = bytearray(encoded(noise(200), "TIFF", compression="jpeg"))
    for i in range(500, len(data) // 2, 7):
        data[i] ^= 0xFF
    return bytes(data)


def broken_tiff() -> bytes:
    """A TIFF that libtiff complains of and gives up."""
    data = bytearray(encoded(noise(200), "TIFF", compression="tiff_adobe_deflate"))
    for i in range(500, len(data) // 2, 7):
        data[i] ^= 0xFF
    return bytes(data)


def profile(space: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def fill(folder: Path, count: int, kind: str = "PNG") -> None:
    """Put ``count`` different pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i:03d}.{kind.lower()}").write_bytes(encoded(noise(20, seed=i), kind))
