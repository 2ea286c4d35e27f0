"""TIFF files of floating-point samples."""

import numpy as np
import pytest

import image_zoo as zoo
from captionless.data.decode import decode_quietly
from captionless.data.tiff import TiffTags, float_image

GENERATOR = np.random.default_rng(1)


def pixels(data: bytes) -> np.ndarray:
    image, notes = decode_quietly(data)
    assert not isinstance(image, str), image
    assert not notes
    return np.asarray(image)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("samples", "planar"), [(1, False), (3, False), (3, True)])
def test_every_layout_gives_the_same_pixels(order, predictor, dtype, samples, planar):
    values = GENERATOR.random((6, 5, samples)).astype(dtype)
    found = pixels(zoo.float_tiff(values, order, predictor, planar))
    np.testing.assert_array_equal(found[..., :samples], np.rint(255 * values.astype(np.float32)).astype(np.uint8))


def test_tiles_are_read():
    tifffile = pytest.importorskip("tifffile")
    values, file = GENERATOR.random((50, 40, 3), np.float32), zoo.io.BytesIO()
    tifffile.imwrite(file, values, tile=(16, 16), photometric="rgb", bigtiff=True)
    np.testing.assert_array_equal(pixels(file.getvalue()), np.rint(255 * values).astype(np.uint8))


def test_alpha_orientation_and_white_at_0_are_obeyed():
    values = np.zeros((2, 4, 4), np.float32)
    values[..., 0], values[0, 0, 3] = 1, 1
    image, _ = decode_quietly(zoo.float_tiff(values, t274=6))
    assert image.mode == "RGBA"
    assert image.size == (2, 4)
    assert image.getpixel((1, 0)) == (255, 0, 0, 255)
    assert image.getpixel((0, 0))[3] == 0
    grey = zoo.float_tiff(np.full((2, 2, 1), 0.2, np.float32), t262=0)
    assert (pixels(grey) == 204).all()


@pytest.mark.parametrize(("highest", "white"), [(1.5, 1), (200, 255), (60_000, 65_535)])
def test_samples_beyond_1_are_scaled_with_a_note(highest, white):
    values = np.full((4, 4, 3), highest / 2, np.float32)
    values[0, 0], values[0, 1, 0], values[0, 2, 0] = highest, np.nan, np.inf
    image, notes = decode_quietly(zoo.float_tiff(values))
    assert f"{white:,} taken for white" in notes[0]
    assert "not finite became black" in notes[1]
    assert image.getpixel((3, 3))[0] == round(255 * highest / 2 / white)
    assert image.getpixel((1, 0))[0] == image.getpixel((2, 0))[0] == 0


def test_other_ranges_and_layouts_are_refused():
    assert "samples of up to 1e+09" in decode_quietly(zoo.float_tiff(np.full((4, 4, 1), 1e9, np.float32)))[0]
    data = zoo.float_tiff(np.ones((5, 4, 3), np.float32), planar=True)
    assert "unusual layout" in decode_quietly(data)[0]
    data = zoo.float_tiff(np.ones((4, 4, 4), np.float32), t262=5)
    assert "neither grey nor RGB" in decode_quietly(data)[0]
    data = zoo.float_tiff(np.ones((4, 4, 1), np.float32), t256=10**6, t257=10**6)
    assert decode_quietly(data)[0].startswith("too large: 1000000 x 1000000")


@pytest.mark.parametrize(("bits", "kind"), [(32, 1), (8, 2), (16, 2)])
def test_integers_that_pillow_does_not_read_are_no_damage(bits, kind):
    values = np.ones((4, 4, 3), f"f{max(bits, 16) // 8}")
    reason, _ = decode_quietly(zoo.float_tiff(values, t258=bits, t339=kind, t277=3))
    signed = "signed " if kind == 2 else ""
    assert reason.startswith(f"unsupported format: a TIFF with 3 channels of {bits}-bit {signed}samples; convert")


@pytest.mark.parametrize("tag", [256, 257, 258, 277, 278])
@pytest.mark.parametrize("value", [0, 2**32 - 1])
def test_absurd_tags_are_one_reason(tag, value):
    reason, _ = decode_quietly(zoo.float_tiff(np.ones((4, 4, 3), np.float32), **{f"t{tag}": value}))
    assert isinstance(reason, str) or (tag, value) == (278, 2**32 - 1)  # one strip of all rows


def test_integers_are_left_to_pillow():
    data = zoo.encoded(zoo.plain(), "TIFF")
    assert float_image(data, TiffTags(data), 10**6) is None
