"""Reduce a PNG to what its pixels depend on, so that damaged or very long metadata cannot cost the image."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Any

_MAX_PROFILE = 64_000_000
_ANCILLARY = 32  # PNG specification, section 5.4: bit 5 of the first letter


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


_NEEDED = frozenset([b"iCCP", b"gAMA", b"sRGB", b"cICP", b"eXIf"])


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
