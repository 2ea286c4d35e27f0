"""Convert the pixels of a decoded image to sRGB with 8 bits per channel, from whatever they were encoded in."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from captionless.data.decoder_errors import decoder
from captionless.data.formats import UnusableError

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_LINEAR, _PQ, _HLG = 8, 16, 18  # transfer characteristics of ITU-T H.273
_SRGB_PRIMARIES = frozenset([0, 1, 2, 5, 6, 7])  # unknown, BT.709, or close to it
_DARK = 1 / 4
"""Share of the range of 16 bits: samples that stay below it are taken for samples of fewer bits."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image in any mode of Pillow to sRGB, as RGB or, if a part of it is transparent, RGBA.

    What is known about the samples is read from ``image.info``: ``icc_profile``, or ``gamma`` and ``cicp`` as in
    `essential_png`; for 16-bit grey ``bits``, the number of significant ones, and ``inverted``, if 0 is white. A
    warning says what was guessed, or cannot be converted.

    Raises:
        UnusableError: the range of the pixels is unknown.
    """
    info = image.info
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # scaled to 16 bits
        image = sixteen_bits(np.asarray(image), info.get("bits", 16), info.get("inverted", False))
    elif image.mode in ("LAB", "I"):  # the white level of 32-bit integers is not recorded
        raise UnusableError(f"unsupported format: pixel mode {image.mode}; convert it to 8-bit RGB")
    elif image.mode == "F":
        image = floats(np.asarray(image)[..., None])
    image, alpha = _without_alpha(image)
    if info.get("bits") == 16 and (highest := max(np.ravel(image.getextrema()))) < 255 * _DARK:
        warnings.warn(
            f"almost black: the brightest of its 16-bit samples is {highest / 255:.1%} of white", stacklevel=1
        )
    image = _srgb(image, info)
    if alpha is None:
        return image.convert("RGB")
    image = image.convert("RGB")
    image.putalpha(alpha)
    return image


def sixteen_bits(values: NDArray[Any], bits: int = 16, inverted: bool = False) -> Image.Image:
    """Return 16-bit grey, (height, width), as an image with 8 bits.

    Cameras often store samples of 10, 12 or 14 bits as they are. If all are dark, the brightest one tells how many.
    """
    highest = int(values.max())
    if bits == 16 and 0 < highest < _DARK * 2**16:
        bits = next(fewer for fewer in (8, 10, 12, 14) if highest < 2**fewer)
        warnings.warn(f"16-bit samples of at most {highest:,} taken for {bits}-bit samples", stacklevel=1)
    table = np.clip(np.rint(np.arange(2**16) * (255 / (2**bits - 1))), 0, 255).astype(np.uint8)
    return Image.fromarray((255 - table if inverted else table)[values])


def floats(values: NDArray[np.floating[Any]], inverted: bool = False) -> Image.Image:
    """Return floating-point samples, (height, width, 1 to 4), as an image with 8 bits; 0 is black and 1 is white.

    If the samples are clearly in the range of 8 or 16 bits, white is 255 or 65,535.
    """
    finite = bool(np.isfinite(values).all())
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    highest = float(values.max())
    white = next((white for white, most in ((1, 2), (255, 256), (65535, 65536)) if highest <= most), None)
    if white is None:
        raise UnusableError(f"unsupported format: samples of up to {highest:.3g}; convert it to 8-bit RGB")
    if white > 1 or highest > 1.001:
        warnings.warn(f"floating-point samples of up to {highest:.3g}: {white:,} taken for white", stacklevel=1)
    if not finite:
        warnings.warn("samples that are not finite became black", stacklevel=1)
    scaled = np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8)
    if inverted:
        scaled = 255 - scaled
    return Image.fromarray(scaled[..., 0] if scaled.shape[2] == 1 else scaled)


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return an image in L, RGB or CMYK, and its alpha channel unless it is opaque everywhere, or transparent."""
    with decoder():  # damage to a palette or to its transparency shows here
        transparent = image.has_transparency_data
        if transparent:
            image = image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
        elif image.mode not in ("L", "RGB", "CMYK"):
            image = image.convert("L" if image.mode == "1" else "RGB")
    if not transparent:
        return image, None
    alpha, opaque = image.getchannel("A"), image.convert(image.mode[:-1])
    lowest, highest = cast(tuple[int, int], alpha.getextrema())
    if highest == 0:
        warnings.warn("transparent everywhere: the transparency was ignored", stacklevel=1)
    return opaque, alpha if lowest < 255 and highest else None


def _srgb(image: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """Convert an image in L, RGB or CMYK to sRGB by what is known about its colours."""
    if profile := info.get("icc_profile"):
        return _by_profile(image, profile)
    gamma = info.get("gamma", 0.0)
    if cicp := info.get("cicp"):
        primaries, transfer = cicp[0], cicp[1]
        if transfer in (_PQ, _HLG):
            warnings.warn("HDR brightness is shown as it is stored, which looks pale", stacklevel=1)
        elif primaries not in _SRGB_PRIMARIES:
            warnings.warn(f"wide-gamut colours (primaries {primaries}) taken for sRGB", stacklevel=1)
        gamma = 1.0 if transfer == _LINEAR else 0.0
    if 0.1 < gamma < 10 and abs(gamma * 2.2 - 1) > 0.05:  # 1 / 2.2 stands for sRGB
        light = np.linspace(0, 1, 256) ** (1 / gamma)
        encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
        return image.point(np.rint(255 * encoded).astype(int).tolist() * len(image.getbands()))
    return image


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image by the content of its colour profile; a profile for another kind of image is ignored."""
    try:
        _, space = _opened(profile)
        if space == "RGB" and image.mode == "L":  # equal channels
            image = image.convert("RGB")
        if space != _SPACES[image.mode]:
            raise UnusableError(f"it is for {space}, not for {_SPACES[image.mode]} images")
        transform = _transform(profile, image.mode)
        return image if transform is None else _applied(transform, image)
    except UnusableError as error:
        warnings.warn(f"colour profile ignored ({error})", stacklevel=1)
        return image


def _opened(profile: bytes) -> tuple[ImageCms.ImageCmsProfile, str]:
    """Return a profile, and the colour space of the pixels that it is for."""
    with decoder():
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return opened, opened.profile.xcolor_space.strip()


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    with decoder():
        return cast(Image.Image, ImageCms.applyTransform(image, transform))


@functools.lru_cache(32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from a profile to sRGB, or None if it would change no channel by more than 1."""
    opened, _ = _opened(profile)
    with decoder():
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15, dtype=np.uint8)  # 0 and 255 included
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None] if mode == "L" else grid)
    converted = _applied(transform, probe)
    change = np.abs(np.asarray(converted, int) - np.asarray(probe.convert("RGB"), int)).max()
    return transform if change > 1 else None
