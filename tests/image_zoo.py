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


def sprite() -> Image.Image:
    """A picture that is transparent but for one corner, with a dark colour hidden behind."""
    image = Image.new("RGBA", (9, 9), (1, 2, 3, 0))
    image.putpixel((0, 0), (1, 2, 3, 255))
    return image


def noise(size: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def png(width: int, height: int, bits: int, kind: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG from its parts (Pillow cannot write all that exist); ``kind`` is the colour type of the standard."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def float_tiff(values: np.ndarray, order: str = "<", predictor: int = 1, planar: bool = False, **tags: int) -> bytes:
    """A TIFF of floating-point samples (height, width, samples), deflated in strips, after TIFF 6.0 and its note 3."""
    height, width, samples = values.shape
    size = values.dtype.itemsize
    planes = [values[..., i : i + 1] for i in range(samples)] if planar else [values]
    strips = []
    for plane in planes:
        rows = plane.astype(f"{order}f{size}").reshape(height, -1)
        if predictor == 3:
            rows = rows.astype(f">f{size}").view(np.uint8).reshape(height, -1, size).swapaxes(1, 2).reshape(height, -1)
            stride = plane.shape[2]
            rows = np.concatenate([rows[:, :stride], rows[:, stride:] - rows[:, :-stride]], 1)
        elif predictor == 2:
            whole, stride = rows.view(f"{order}u{size}"), plane.shape[2]
            rows = np.concatenate([whole[:, :stride], whole[:, stride:] - whole[:, :-stride]], 1).astype(whole.dtype)
        strips += [zlib.compress(half.tobytes()) for half in (rows[: height // 2], rows[height // 2 :])]
    entries = {256: [width], 257: [height], 258: [8 * size] * samples, 259: [8], 262: [2 if samples > 2 else 1]}
    entries |= {277: [samples], 278: [height // 2], 284: [2 if planar else 1], 317: [predictor], 339: [3] * samples}
    entries |= {273: strips, 279: [len(strip) for strip in strips]}
    entries |= {338: [2]} if samples in (2, 4) else {}
    entries |= {int(tag[1:]): [value] for tag, value in tags.items()}
    at, more, listed = 8 + 2 + 12 * len(entries) + 4, b"", b""
    for tag, content in sorted(entries.items()):
        if tag == 273:
            first = at + len(more) + 1000  # after all lists
            content = [first + sum(map(len, strips[:i])) for i in range(len(strips))]
        packed = struct.pack(f"{order}{len(content)}I", *content)
        listed += struct.pack(f"{order}HHI", tag, 4, len(content))
        listed += packed if len(content) == 1 else struct.pack(f"{order}I", at + len(more))
        more += packed if len(content) > 1 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    body = head + listed + bytes(4) + more
    return body.ljust(first, b"\0") + b"".join(strips)


def linear_profile(space: str = "sRGB", name: str = "sRGB, so to speak", gamma: float = 1.0) -> bytes:
    """A profile whose name says sRGB and whose content says otherwise: an ICC profile made of its parts."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma)) + bytes(2)
    text = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": _xyz(0.9642, 1, 0.8249),
    }
    if space == "GRAY":
        tags[b"kTRC"] = curve
    else:  # the primaries of sRGB, adapted to D50
        tags |= {b"rXYZ": _xyz(0.4361, 0.2225, 0.0139), b"gXYZ": _xyz(0.3851, 0.7169, 0.0971)}
        tags |= {b"bXYZ": _xyz(0.1431, 0.0606, 0.7141), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    place, table, content = 128 + 4 + 12 * len(tags), b"", b""
    for tag, body in tags.items():
        table += tag + struct.pack(">II", place + len(content), len(body))
        content += body.ljust(-(-len(body) // 4) * 4, b"\0")
    kind = (b"GRAY" if space == "GRAY" else b"RGB ") + b"XYZ "
    header = bytes(4) + bytes(4) + b"\x02\x10\0\0" + b"mntr" + kind + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    data = header + struct.pack(">I", len(tags)) + table + content
    return struct.pack(">I", len(data)) + data[4:]


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def chunk(name: bytes, body: bytes, *, sound: bool = True) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ (not sound))


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with further chunks after its header."""
    return data[:33] + b"".join(chunks) + data[33:]


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
