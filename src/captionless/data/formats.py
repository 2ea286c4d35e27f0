"""Tell what a file is from its first bytes; the ending of its name may say something else."""

from __future__ import annotations

import re
from importlib.util import find_spec

from captionless.files import LFS_POINTER

HEAD = 1024
"""Number of bytes at the beginning of a file from which its format is told."""
FORMATS = "JPEG, PNG, WebP, AVIF, HEIC, JPEG 2000, BMP, TIFF, GIF, PPM or PGM"
"""The formats that are read, in words."""
_READ = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_UNSUPPORTED = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"IIRO": "camera raw",
    b"IIRS": "camera raw",
    b"MMOR": "camera raw",
    b"IIU\0": "camera raw",
    b"FUJIFILMCCD-RAW": "camera raw",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"\0\0\1\0": "icon",
    b"%PDF": "PDF",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"gimp xcf": "GIMP",
    b"II\xbc": "JPEG XR",
    b"SIMPLE  =": "FITS",
    b"AT&TFORM": "DjVu",
    b"\x8aMNG": "MNG",
    b"\x8bJNG": "JNG",
}
_AVIF, _HEIF = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MARKUP = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:!doctype\s+)?(svg|html)\b", re.I | re.S
)


class UnusableError(Exception):
    """Raised for a file that cannot be decoded; the message is the reason, as ``kind: details``."""


def image_format(head: bytes) -> str:
    """Return the format of an image file under its name in Pillow.

    Args:
        head: the first `HEAD` bytes of the file, or all of them.

    Raises:
        UnusableError: the format is unknown or not supported, or needs a package that is not installed.
    """
    if not head:
        raise UnusableError("empty file")
    for magic, name in _READ.items():
        if head.startswith(magic) and (name != "BMP" or head[15:18] == bytes(3)):  # a text may begin with BM
            if name == "TIFF" and head[8:10] == b"CR":
                raise unsupported("camera raw")
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if re.match(rb"P(?:[1-6]|f)[\s#]", head):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _iso_format(head)
    if name := next((name for magic, name in _UNSUPPORTED.items() if head.startswith(magic)), ""):
        raise unsupported(name)
    if head.startswith(LFS_POINTER):
        raise UnusableError("not fetched: a pointer of Git LFS; `git lfs pull` fetches the image")
    if found := _MARKUP.match(head):
        raise unsupported("SVG") if found[1].lower() == b"svg" else UnusableError("not an image: a web page")
    raise UnusableError("not an image")


def _iso_format(head: bytes) -> str:
    """Return the format of an ISO base media file (ISO 14496-12), which lists its brands."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[at : at + 4] for at in (8, *range(16, size, 4))}
    if brands & _AVIF:
        return "AVIF"
    if brands & _HEIF:
        if find_spec("pillow_heif") is None:
            raise UnusableError(
                "unsupported format: HEIC; install the extra for it (pip install 'captionless[heic]'), or convert it "
                "to JPEG or PNG"
            )
        return "HEIF"
    if b"jxl " in brands:
        raise unsupported("JPEG XL")
    raise unsupported("camera raw") if b"crx " in brands else UnusableError("not an image: a video")


def unsupported(what: str) -> UnusableError:
    """Return the error for an image in a format that is not read."""
    return UnusableError(f"unsupported format: {what}; convert it to JPEG or PNG")
