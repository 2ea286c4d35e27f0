"""What stands beside the pixels of a PNG never costs the image."""

import zlib

import pytest

import image_zoo as zoo
from captionless.data.decode import decode_quietly
from captionless.data.png import essential_png

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
