"""What stands beside the pixels never costs the image."""

import zlib

import pytest
from PIL import Image

import image_zoo as zoo
from captionless.data.decode import decode_quietly
from captionless.data.metadata import essential_jpeg, essential_png

PLAIN = zoo.encoded(zoo.plain(), "PNG")
LONG = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))
BAD = {
    "a long text": [zoo.chunk(b"iTXt", LONG)],
    "a long compressed text": [zoo.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000)))],
    "many texts": [zoo.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 70,
    "a damaged text": [zoo.chunk(b"tEXt", b"a\0b", sound=False)],
    "short chunks": [
        zoo.chunk(name, b"\1") for name in (b"gAMA", b"cHRM", b"pHYs", b"tIME", b"eXIf", b"sRGB", b"acTL")
    ],
    "damaged chunks": [zoo.chunk(name, bytes(8), sound=False) for name in (b"gAMA", b"eXIf", b"iCCP", b"cICP")],
    "a profile in an unknown compression": [zoo.chunk(b"iCCP", b"a\0\7rubbish")],
    "an animation without frames": [zoo.chunk(b"acTL", b"\0\0\0\2\0\0\0\0"), zoo.chunk(b"fcTL", b"\0")],
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_metadata_does_not_cost_the_image(kind):
    image, _ = decode_quietly(zoo.with_chunks(PLAIN, *BAD[kind]))
    assert image.getpixel((5, 5)) == zoo.RED


def test_what_is_ignored_is_told():
    _, notes = decode_quietly(zoo.with_chunks(PLAIN, *BAD["damaged chunks"]))
    assert "damaged iCCP chunk ignored" in notes


def test_a_profile_of_more_than_a_megabyte_is_used():
    profile = zoo.linear_profile() + bytes(2_000_000)
    profile = len(profile).to_bytes(4, "big") + profile[4:]
    data = zoo.with_chunks(
        zoo.encoded(zoo.plain((55, 55, 55)), "PNG"), zoo.chunk(b"iCCP", b"a\0\0" + zlib.compress(profile))
    )
    assert decode_quietly(data)[0].getpixel((5, 5)) == (128, 128, 128)


def test_a_plain_png_is_left_as_it_is():
    assert essential_png(PLAIN) == (PLAIN, {})
    assert essential_png(PLAIN[:40])[0] == PLAIN[:40]


@pytest.mark.parametrize("at", [20, 60, -20])
def test_damage_to_the_pixels_is_still_noticed(at):
    data = bytearray(zoo.encoded(zoo.noise(), "PNG"))
    data[at] ^= 255
    reason, _ = decode_quietly(bytes(data))
    assert isinstance(reason, str)


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


SEGMENTS = {
    "a short JFIF header": segment(0xE0, b"JFIF\0"),
    "a short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile of which a part is missing": segment(0xE2, b"ICC_PROFILE\0\2\3rubbish"),
    "a short Adobe marker": segment(0xEE, b"Adobe"),
    "damaged EXIF": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(20)),
    "several frames that are not there": segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\3"),
    "a damaged Photoshop block": segment(0xED, b"Photoshop 3.0\x008BIM\x04\xff"),
    "long XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(65_000)) * 40,
    "an empty comment after a fill byte": b"\xff" + segment(0xFE, b""),
}


@pytest.mark.parametrize("kind", SEGMENTS)
def test_bad_segments_do_not_cost_a_jpeg(kind):
    data = zoo.encoded(zoo.plain(), "JPEG", quality=95)
    image, _ = decode_quietly(data[:2] + SEGMENTS[kind] + data[2:])
    assert not isinstance(image, str), image
    assert max(abs(a - b) for a, b in zip(image.getpixel((5, 5)), zoo.RED, strict=True)) < 4


def test_a_jpeg_keeps_what_its_pixels_depend_on():
    exif = Image.Exif()
    exif[274] = 6
    data = zoo.encoded(zoo.plain((55, 55, 55)), "JPEG", icc_profile=zoo.linear_profile(), exif=exif, comment=b"a rose")
    essential = essential_jpeg(data)
    assert len(essential) == len(data) - len(segment(0xFE, b"a rose"))
    image, notes = decode_quietly(data)
    assert not notes
    assert image.size == (16, 24)
    assert max(abs(value - 128) for value in image.getpixel((5, 5))) < 4


@pytest.mark.parametrize("format", ["AVIF", "WEBP", "TIFF", "HEIF"])
def test_damaged_exif_costs_no_image_of_other_formats(format):
    if format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    image, _ = decode_quietly(zoo.encoded(zoo.plain(), format, exif=b"Exif\0\0MM\0*\0\0\xff\xff rubbish"))
    assert not isinstance(image, str), image
