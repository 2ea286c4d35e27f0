"""Pixels come out in sRGB with 8 bits per channel, by what the file holds and not by what it is called."""

import numpy as np
import pytest
from PIL import Image

import image_zoo as zoo
from captionless.data.decode import decode_quietly
from image_zoo import encoded

LINEAR = {
    (55, 55, 55): (128, 128, 128),
    (200, 20, 20): (229, 79, 79),
    (20, 90, 20): (79, 160, 79),
    (5, 5, 5): (38, 38, 38),
}


def decoded(data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    image, notes = decode_quietly(data)
    assert not isinstance(image, str), image
    return image, notes


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
@pytest.mark.parametrize(("stored", "shown"), LINEAR.items())
def test_a_profile_is_obeyed_whatever_it_is_called(format, stored, shown):
    options = {"lossless": True} if format == "WEBP" else {"quality": 100} if format in ("AVIF", "JPEG") else {}
    image, notes = decoded(encoded(zoo.plain(stored), format, icc_profile=zoo.linear_profile(), **options))
    assert not notes
    assert max(abs(a - b) for a, b in zip(image.getpixel((5, 5)), shown, strict=True)) <= (
        6 if format in ("AVIF", "JPEG") else 1
    )


def test_a_profile_of_jpeg_2000_is_obeyed():
    data = encoded(zoo.plain((55, 55, 55)), "JPEG2000")
    header, old = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    box = b"colr\2\0\0" + zoo.linear_profile()
    end = old + int.from_bytes(data[old : old + 4], "big")
    longer = int.from_bytes(data[header : header + 4], "big") + len(box) + 4 - (end - old)
    longer, box = longer.to_bytes(4, "big"), (len(box) + 4).to_bytes(4, "big") + box
    data = data[:header] + longer + data[header + 4 : old] + box + data[end:]
    image, notes = decoded(data)
    assert not notes
    assert image.getpixel((5, 5)) == (128, 128, 128)


def test_grey_with_alpha_is_converted_by_its_profile_and_keeps_its_alpha():
    image = Image.new("LA", (4, 1))
    for x, pixel in enumerate([(55, 255), (128, 255), (200, 128), (128, 0)]):
        image.putpixel((x, 0), pixel)
    found, notes = decoded(encoded(image, "PNG", icc_profile=zoo.linear_profile("GRAY", gamma=1.8)))
    assert not notes
    assert [found.getpixel((x, 0)) for x in range(3)] == [(71, 71, 71, 255), (146, 146, 146, 255), (210, 210, 210, 128)]
    assert found.getpixel((3, 0))[3] == 0


@pytest.mark.parametrize(("mode", "pixel"), [("L", 55), ("RGBA", (55, 55, 55, 200)), ("P", 55)])
def test_an_rgb_profile_applies_to_grey_palettes_and_transparent_pictures(mode, pixel):
    image = Image.new(mode, (4, 4), pixel)
    if mode == "P":
        image.putpalette([55] * 768)
    found, notes = decoded(encoded(image, "PNG", icc_profile=zoo.linear_profile()))
    assert not notes
    assert found.getpixel((0, 0))[:3] == (128, 128, 128)


def test_a_grey_profile_does_not_fit_colours_and_is_ignored_with_a_note():
    image, notes = decoded(encoded(zoo.plain((55, 55, 55)), "PNG", icc_profile=zoo.linear_profile("GRAY")))
    assert image.getpixel((0, 0)) == (55, 55, 55)
    assert "it is for GRAY, not for RGB images" in notes[0]


@pytest.mark.parametrize(("gamma", "shown"), [(100_000, 128), (45_455, 55), (55_556, 71)])
def test_a_png_says_its_gamma_in_a_chunk(gamma, shown):
    data = encoded(zoo.plain((55, 55, 55)), "PNG")
    chunk = zoo.chunk(b"gAMA", gamma.to_bytes(4, "big"))
    assert decoded(zoo.with_chunks(data, chunk))[0].getpixel((0, 0)) == (shown,) * 3
    assert decoded(zoo.with_chunks(data, chunk, zoo.chunk(b"sRGB", b"\0")))[0].getpixel((0, 0)) == (55,) * 3


@pytest.mark.parametrize(
    ("cicp", "shown", "note"),
    [((1, 13), 55, ""), ((1, 8), 128, ""), ((9, 16), 55, "HDR"), ((9, 18), 55, "HDR"), ((12, 13), 55, "wide-gamut")],
)
def test_coding_independent_code_points_are_obeyed_or_told(cicp, shown, note):
    data = zoo.with_chunks(encoded(zoo.plain((55, 55, 55)), "PNG"), zoo.chunk(b"cICP", bytes([*cicp, 0, 1])))
    image, notes = decoded(data)
    assert image.getpixel((0, 0)) == (shown,) * 3
    assert note in "".join(notes)
    assert bool(note) == bool(notes)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_16_are_stretched_with_a_note(format, bits):
    values = np.linspace(0, 2**bits - 1, 16).astype(np.uint16).reshape(4, 4)
    image, notes = decoded(encoded(Image.fromarray(values), format))
    assert np.asarray(image)[..., 0].max() == 255
    assert notes == (f"16-bit samples of at most {2**bits - 1:,} taken for {bits}-bit samples",)


def test_a_dark_picture_of_16_bits_and_a_black_one_stay_as_they_are():
    for highest, shown in ((20_000, 78), (0, 0)):
        image, notes = decoded(encoded(Image.fromarray(np.full((4, 4), highest, np.uint16)), "PNG"))
        assert image.getpixel((0, 0)) == (shown,) * 3
        assert bool(notes) == (highest == 0)


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_fewer_bits_in_16_are_told(kind, channels):
    values = np.full((2, 2, channels), 4095, dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    _, notes = decoded(zoo.png(2, 2, 16, kind, rows))
    assert notes == ("almost black: the brightest of its 16-bit samples is 5.9% of white",)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_that_is_transparent_everywhere_shows_its_colours_with_a_note(format):
    options = {"lossless": True, "exact": True} if format == "WEBP" else {"quality": 100} if format == "AVIF" else {}
    image, notes = decoded(encoded(Image.new("RGBA", (8, 8), (200, 30, 30, 0)), format, **options))
    assert image.mode == "RGB"
    assert max(abs(a - b) for a, b in zip(image.getpixel((3, 3)), (200, 30, 30), strict=True)) <= 4
    assert notes == ("transparent everywhere: the transparency was ignored",)
