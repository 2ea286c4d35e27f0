"""Reduce an image file to what its pixels depend on, so that damaged or very long metadata cannot cost the image."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Any

_MAX_PROFILE = 64_000_000
_ANCILLARY = 32  # PNG specification, section 5.4: bit 5 of the first letter
_NEEDED = frozenset([b"iCCP", b"gAMA", b"sRGB", b"cICP", b"eXIf"])
_MARKED = {0xE0: (b"JFIF\0", 14), 0xE1: (b"Exif\0\0", 14), 0xE2: (b"ICC_PROFILE\0", 14), 0xEE: (b"Adobe", 12)}
"""By marker of a JPEG, how a segment begins that decoding needs, and its shortest length in bytes."""


def essential_png(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return a PNG with the chunks that decoding needs, and what other chunks say about the colours.

    Only the first frame of an animation is left. A damaged chunk of metadata is left out with a warning.

    Returns:
        The PNG, and a dictionary with those of these keys that apply: ``icc_profile`` (bytes), ``gamma`` (exponent by
        which samples were encoded, as in the chunk gAMA), ``cicp`` (four bytes, as in the chunk cICP).
    """
    kept, start, at = list[bytes](), 0, 8
    found: dict[bytes, bytes] = {}
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if name[0] & _ANCILLARY and name != b"tRNS":
            body = data[at + 8 : end - 4]
            sound = name in _NEEDED and data[end - 4 : end] == zlib.crc32(name + body).to_bytes(4, "big")
            if sound:
                found.setdefault(name, body)
            elif name in _NEEDED:
                warnings.warn(f"damaged {name.decode()} chunk ignored", stacklevel=1)
            if not (sound and name == b"eXIf"):
                kept.append(data[start:at])
                start = end
        at = end
    return (b"".join([*kept, data[start:]]) if kept else data), _colours(found)


def _colours(found: dict[bytes, bytes]) -> dict[str, Any]:
    """Return what the chunks say, by the precedence of the PNG specification (third edition, section 4.3)."""
    if len(found.get(b"cICP", b"")) == 4:
        return {"cicp": found[b"cICP"]}
    if b"iCCP" in found:
        try:
            compressed = found[b"iCCP"].partition(b"\0")[2][1:]
            return {"icc_profile": zlib.decompressobj().decompress(compressed, _MAX_PROFILE)}
        except zlib.error as error:
            warnings.warn(f"colour profile ignored ({error})", stacklevel=1)
    if b"sRGB" not in found and len(found.get(b"gAMA", b"")) == 4:
        return {"gamma": int.from_bytes(found[b"gAMA"], "big") / 100_000}
    return {}


def jpeg2000_profile(data: bytes) -> dict[str, Any]:
    """Return the colour profile of a JPEG 2000 file, which Pillow leaves out, as ``icc_profile``; empty without one."""
    at = data.find(b"colr", 0, 1 << 16)  # ISO 15444-1, annex I.5.3.3
    if at < 4 or data[at + 4 : at + 5] not in (b"\2", b"\3"):  # method: a profile
        return {}
    return {"icc_profile": data[at + 7 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]}


def essential_jpeg(data: bytes) -> bytes:
    """Return a JPEG with those application segments and comments (ITU-T T.81, B.2.4) that decoding needs."""
    kept, start, at = list[bytes](), 0, 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:  # the pixels follow
            break
        begin, least = _MARKED.get(marker, (b"", 0))
        end = at + 2 + length
        needed = least and length - 2 >= least and data.startswith(begin, at + 4)
        if not needed and (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start:at])
            start = end
        at = end
    return b"".join([*kept, data[start:]]) if kept else data
