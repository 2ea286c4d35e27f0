import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import image_zoo as zoo
from captionless.data import decode as decoding
from captionless.data.crop import crop_square
from captionless.data.decode import UnusableError, decode_image, decode_quietly, read_bytes
from captionless.errors import CaptionlessError
from image_zoo import encoded


def middle(data: bytes) -> tuple[int, ...]:
    image = decode_image(data)
    assert image.mode == "RGB"
    return image.getpixel((image.width // 2, image.height // 2))


def close(a, b, tolerance=3):
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= tolerance


# Formats and modes


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "MPO"])
def test_every_format_is_read(format):
    assert close(middle(encoded(zoo.plain(), format)), zoo.RED, 6)


def test_grey_becomes_equal_channels():
    assert close(middle(encoded(Image.new("L", (8, 8), 100), "PNG")), (100, 100, 100), 0)


def test_one_bit_becomes_black_and_white():
    assert middle(encoded(Image.new("1", (8, 8), 1), "PNG")) == (255, 255, 255)
    assert middle(encoded(Image.new("1", (8, 8), 0), "TIFF")) == (0, 0, 0)


@pytest.mark.parametrize(
    ("ink", "color"), [((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))]
)
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_ink_not_light(format, ink, color):
    assert close(middle(encoded(Image.new("CMYK", (16, 16), ink), format)), color, 4)


def test_a_palette_gives_its_colours():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert middle(encoded(image, "PNG")) == (10, 200, 30)


def test_a_transparent_palette_entry_shows_the_background():
    image = Image.new("P", (8, 8), 1)
    image.putpixel((0, 0), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert middle(encoded(image, "PNG", transparency=1)) == (255, 255, 255)
    assert middle(encoded(image, "GIF", transparency=1)) == (255, 255, 255)


def test_half_transparent_palette_entries_are_mixed_with_the_background():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 0, 0, 0])
    assert close(middle(encoded(image, "PNG", transparency=bytes([255, 128]))), (127, 127, 127), 1)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(format):
    half = Image.new("RGBA", (8, 8), (0, 0, 254, 128))
    options = {"lossless": True} if format == "WEBP" else {}
    assert close(middle(encoded(half, format, **options)), (127, 127, 254), 1)


def test_the_hidden_colour_of_transparent_pixels_does_not_show():
    assert middle(encoded(zoo.sprite(), "PNG")) == (255, 255, 255)


def test_grey_with_alpha_is_laid_over_white():
    assert close(middle(encoded(Image.new("LA", (8, 8), (0, 128)), "PNG")), (127, 127, 127), 1)


def test_a_transparent_colour_key_shows_the_background():
    image = Image.new("RGB", (8, 8), (9, 9, 9))
    image.putpixel((0, 0), zoo.RED)
    assert middle(encoded(image, "PNG", transparency=(9, 9, 9))) == (255, 255, 255)


def test_an_animation_gives_its_first_frame():
    frames = [zoo.plain(zoo.RED), zoo.plain(zoo.BLUE)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert close(middle(data), zoo.RED, 6), format


# More than 8 bits


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16).repeat(2, axis=0)
    pixels = np.asarray(decode_image(encoded(Image.fromarray(values), format)))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_grey_of_either_byte_order_is_the_same():
    values = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    little = decode_image(encoded(Image.fromarray(values), "TIFF"))
    big = decode_image(encoded(Image.frombytes("I;16B", (4, 3), values.astype(">u2").tobytes()), "TIFF"))
    assert np.array_equal(np.asarray(little), np.asarray(big))


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_pngs_of_every_colour_type_are_scaled(kind, channels):
    values = np.full((2, 2, channels), 0x8080, dtype=">u2")
    if channels in (2, 4):
        values[..., -1] = 0xFFFF
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    assert close(middle(zoo.png(2, 2, 16, kind, rows)), (128, 128, 128), 0)


def test_12_bit_tiffs_use_their_own_white():
    data = bytearray(encoded(Image.fromarray(np.full((4, 4), 4095, np.uint16)), "TIFF"))
    # Two pixels of 12 bits fill three bytes: the samples of this file become 0xFFF throughout.
    at = data.index((4095).to_bytes(2, "little") * 8)
    data[at : at + 32] = b"\xff" * 32
    bits = data.index(bytes([2, 1, 3, 0, 1, 0, 0, 0, 16, 0]))
    data[bits + 8] = 12
    assert middle(bytes(data)) == (255, 255, 255)


def test_integers_of_32_bits_are_refused_because_their_white_is_unknown():
    data = encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF")
    assert reason(data).startswith("unsupported format: pixel mode")


# Orientation and colour profiles


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(format, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255  # only the upper left quarter is white
    # What a camera held that way records: the inverse of the correction that the standard asks for.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[274] = orientation
    pixels = np.asarray(decode_image(encoded(image, format, exif=exif))).astype(int)
    assert pixels.shape == upright.shape
    assert np.abs(pixels - upright).mean() < 4


def test_damaged_exif_does_not_cost_the_image():
    image, _ = decode_quietly(encoded(zoo.plain(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff rubbish"))
    assert close(image.getpixel((5, 5)), zoo.RED, 4)


def test_a_wide_colour_profile_is_converted():
    # With red and green exchanged, the "red" of a profile is what sRGB calls green.
    data = bytearray(zoo.profile())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red], data[green] = data[green], data[red]
    data = bytes(data).replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be")).replace(b"sRGB", b"odd!")
    assert close(middle(encoded(zoo.plain((255, 0, 0)), "PNG", icc_profile=data)), (0, 255, 0), 2)


def test_an_srgb_profile_changes_nothing():
    assert middle(encoded(zoo.plain((12, 200, 77)), "PNG", icc_profile=zoo.profile())) == (12, 200, 77)


@pytest.mark.parametrize("profile", [b"rubbish", zoo.profile("LAB")])
def test_a_profile_that_does_not_fit_is_ignored_with_a_note(profile):
    image, notes = decode_quietly(encoded(zoo.plain(), "PNG", icc_profile=profile))
    assert image.getpixel((5, 5)) == zoo.RED
    assert "colour profile ignored" in notes[0]


# What is no picture


def reason(data: bytes) -> str:
    result, _ = decode_quietly(data)
    assert isinstance(result, str)
    return result


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_truncated_file_is_refused(format):
    data = encoded(zoo.noise(), format)
    assert reason(data[: len(data) // 2]).startswith(("truncated", "damaged"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_file_of_which_only_the_beginning_is_left_is_refused(format):
    assert reason(encoded(zoo.noise(), format)[:20]).startswith(("truncated", "damaged", "not an image"))


def test_text_is_not_an_image():
    assert reason(b"Dear diary, today I saw a daisy.").startswith("not an image")


def test_a_decompression_bomb_is_refused_before_it_goes_off():
    assert reason(zoo.bomb()).startswith("too large")


def test_an_image_above_the_limit_of_pixels_is_rejected():
    result, _ = decode_quietly(encoded(zoo.plain(), "PNG"), max_pixels=100)
    assert result == "too large: 24 x 16 pixels, the limit is 100, and 1,000,000 a side"


def test_lab_colours_are_refused_with_advice():
    assert "convert it to 8-bit RGB" in reason(encoded(Image.new("LAB", (8, 8)), "TIFF"))


def test_formats_that_run_programs_are_not_even_tried():
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").startswith("not an image")


def test_too_little_memory_is_a_reason_not_a_crash(monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(decoding, "to_rgb", full)
    assert reason(encoded(zoo.plain(), "PNG")).startswith("too large")


@pytest.mark.parametrize("error", [KeyError("ours"), TypeError("ours"), OSError("ours"), struct.error("ours")])
@pytest.mark.parametrize("place", ["essential_png", "to_rgb", "image_format"])
def test_a_bug_of_our_own_is_no_damage(place, error, monkeypatch):
    def bug(*_, **__):
        raise error

    data = encoded(zoo.plain(), "PNG")
    monkeypatch.setattr(decoding, place, bug)
    with pytest.raises(type(error), match="ours"):
        decode_quietly(data)


@pytest.mark.parametrize("place", ["open", "Image.load", "Image.convert"])
@pytest.mark.parametrize("error", [KeyError, TypeError, struct.error, zlib.error, AssertionError, ZeroDivisionError])
def test_whatever_pillow_raises_is_damage(place, error, monkeypatch):
    def damaged(*_, **__):
        raise error("bad bytes")

    data = encoded(zoo.plain().convert("P"), "PNG")
    monkeypatch.setattr(f"PIL.Image.{place}", damaged)
    assert reason(data).startswith("damaged: ")


@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]), st.integers(0, 400))
def test_no_damage_ever_escapes_as_another_error(rubbish, format, at):
    data = encoded(zoo.noise(16), format)
    result, _ = decode_quietly(data[:at] + rubbish + data[at + len(rubbish) :])
    assert isinstance(result, str) or (result.mode == "RGB" and min(result.size) > 0)


# Decoding one picture


def test_decode_takes_a_path_of_any_letters(tmp_path):
    path = tmp_path / "Gänseblümchen 花.JPG"
    path.write_bytes(encoded(zoo.plain(), "JPEG"))
    assert decode_image(path).size == decode_image(str(path)).size == (24, 16)


def test_decode_names_the_file_and_the_reason(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(CaptionlessError, match=r"empty\.jpg: empty file"):
        decode_image(tmp_path / "empty.jpg")
    with pytest.raises(CaptionlessError, match=r"gone\.jpg: cannot be read: No such file"):
        decode_image(tmp_path / "gone.jpg")


def test_decode_warns_of_what_the_decoder_complains_about(capfd):
    with pytest.warns(UserWarning, match="the image:"):
        decode_image(zoo.shouting_tiff())
    assert capfd.readouterr().err == ""


def test_a_file_above_the_limit_of_bytes_is_not_read(tmp_path):
    (tmp_path / "a.bmp").write_bytes(encoded(zoo.plain(), "BMP"))
    with pytest.raises(UnusableError, match="too large"):
        read_bytes(tmp_path / "a.bmp", max_bytes=10)


@pytest.mark.parametrize(("at_least", "size"), [(50, (100, 200)), (51, (200, 400)), (300, (400, 800)), (0, (400, 800))])
def test_a_large_jpeg_may_be_decoded_smaller_but_never_too_small(at_least, size):
    data = encoded(Image.linear_gradient("L").convert("RGB").resize((400, 800)), "JPEG", quality=95)
    image, _ = decode_quietly(data, at_least)
    assert image.size == size
    difference = np.asarray(crop_square(decode_image(data), 50), int) - np.asarray(crop_square(image, 50), int)
    assert np.abs(difference).max() <= 4


# Squares


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_a_square_has_the_size_asked_for(width, height, size):
    assert crop_square(zoo.plain(size=(width, height)), size).size == (size, size)


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_square_is_the_centre(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    side = min(width, height)
    cut = np.asarray(crop_square(Image.fromarray(pixels), side)).astype(int)
    left, top = cut[0, 0, 0], cut[0, 0, 1]
    assert abs(left - (width - side - left)) <= 1
    assert abs(top - (height - side - top)) <= 1
    assert np.array_equal(cut[..., 0], np.broadcast_to(left + np.arange(side), (side, side)))


@pytest.mark.parametrize("size", [8, 16, 32, 100])
def test_reducing_is_antialiased_so_a_fine_checkerboard_becomes_grey(size):
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels = np.asarray(crop_square(Image.fromarray(board).convert("RGB"), size)).astype(int)
    assert np.abs(pixels - 127.5).max() < 6


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 80), st.integers(1, 40))
def test_a_plain_colour_stays_that_colour_at_any_size(color, side, size):
    assert (np.asarray(crop_square(zoo.plain(color, (side, side + 3)), size)) == color).all()


def test_a_small_image_is_enlarged():
    assert crop_square(zoo.plain(size=(3, 2)), 32).size == (32, 32)


@pytest.mark.parametrize("size", [0, -1])
def test_a_square_needs_pixels(size):
    with pytest.raises(CaptionlessError, match="1 or more"):
        crop_square(zoo.plain(), size)


def test_a_png_that_ends_in_its_header_is_truncated():
    for length in (8, 20, 32):
        with pytest.raises(CaptionlessError, match="truncated: the end of the file is missing"):
            decode_image(zoo.encoded(zoo.noise(12), "PNG")[:length])
