"""The content of a file decides what it is; the ending of its name does not."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import image_zoo as zoo
from captionless.data.decode import decode_quietly
from captionless.data.formats import UnusableError, image_format
from captionless.data.images import ImageFile, read_images
from captionless.files import LFS_POINTER
from image_zoo import encoded
from platforms import DEVICES

NAMES = [
    "a.jfif",
    "a.jpg.1",
    "a.jpeg?w=600",
    "a.jpg_large",
    "tulip.jpg (1)",
    "sunset at 5.30",
    "phone.HEIC",
    "a.txt",
    "a",
]


def heic(brand: bytes = b"heic") -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "JPEG2000"])
def test_an_image_is_read_whatever_its_name(tmp_path: Path, format: str) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(encoded(zoo.plain(), format))
    found = list(read_images(tmp_path))
    assert all(isinstance(one, ImageFile) for one in found)
    assert sorted(one.name for one in found) == sorted(NAMES)


def test_heic_is_read_with_its_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    data = pillow_heif.from_pillow(zoo.plain())
    path = zoo.io.BytesIO()
    data.save(path)
    image, notes = decode_quietly(path.getvalue())
    assert not notes
    assert max(abs(a - b) for a, b in zip(image.getpixel((5, 5)), zoo.RED, strict=True)) < 6


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"hevc"])
def test_heic_without_its_extra_names_it(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captionless.data.formats.find_spec", lambda name: None)
    with pytest.raises(UnusableError, match=r"HEIC; install the extra for it \(pip install 'captionless\[heic\]'\)"):
        image_format(heic(brand))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "unsupported format: JPEG XL"),
        (b"\xff\x0a rest", "unsupported format: JPEG XL"),
        (heic(b"crx ").replace(b"mif1", b"isom"), "unsupported format: camera raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "unsupported format: camera raw"),
        (b"8BPS\0\1", "unsupported format: Photoshop"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a rose -->\n<svg xmlns=', "unsupported format: SVG"),
        (b"  <!DOCTYPE html>\n<html>", "not an image: a web page"),
        (heic(b"isom").replace(b"mif1", b"mp42"), "not an image: a video"),
        (LFS_POINTER + b"\noid sha256:ffe4\nsize 84977\n", "git lfs pull"),
        (b"Dear diary", "not an image"),
        (b"BMW, VW and other cars of 2024", "not an image"),
        (bytes(1024), "not an image"),
        (b"", "empty file"),
    ],
)
def test_what_is_not_read_is_named(head: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        image_format(head)


def test_the_preview_in_a_camera_file_is_not_taken_for_the_photograph() -> None:
    preview = encoded(zoo.plain(), "TIFF", tiffinfo={254: 1, 330: 8})
    dng = encoded(zoo.plain(), "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    for data in (preview, dng):
        assert decode_quietly(data)[0] == "unsupported format: camera raw; convert it to JPEG or PNG"


def test_16_bit_pgm_and_floating_point_pfm_are_read() -> None:
    pgm = b"P5 2 1 4095\n" + bytes([0, 0, 0x0F, 0xFF])
    pfm = b"Pf\n2 1\n-1.0\n" + zoo.np.array([0, 1], "<f4").tobytes()
    for data in (pgm, pfm):
        image, notes = decode_quietly(data)
        assert not notes
        assert [image.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


@DEVICES
def test_an_endless_device_is_no_image() -> None:
    code = "from captionless.data import decode_image; decode_image('/dev/zero')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "cannot use /dev/zero: not an image" in run.stderr


def test_the_limit_on_sides_spares_the_memory_that_each_row_takes() -> None:
    reason, _ = decode_quietly(zoo.png(1, 90_000_000, 8, 0, b""))
    assert reason == "too large: 1 x 90000000 pixels, the limit is 100,000,000, and 1,000,000 a side"


def test_a_palette_image_with_another_ending_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("P", (4, 4), 1).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.csv")
    assert [type(one) for one in read_images(tmp_path)] == [ImageFile]
