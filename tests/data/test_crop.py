"""The contract of captionless.data.crop: squares of photographs, sprites and everything between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import image_zoo as zoo
from captionless.data.crop import crop_square, enlarge_pixel_art, is_pixel_art, reduce_whole
from captionless.data.decode import decode_image

FLOWERS = sorted((Path(__file__).parents[2] / "examples" / "flowers").rglob("*.jpg"))[::5]


@pytest.mark.parametrize("size", [32, 64])
def test_squares_of_reduced_photographs_hardly_differ_from_those_of_the_originals(size: int) -> None:
    differences = []
    for path in FLOWERS:
        image = decode_image(path)
        exact, reduced = (
            np.asarray(crop_square(one, size), np.int16) for one in (image, reduce_whole(image, size * 3 // 2))
        )
        differences.append(np.abs(exact - reduced).mean())
    assert np.mean(differences) < 0.6
    assert max(differences) < 1


@pytest.mark.parametrize("shape", [(40, 40), (41, 40), (40, 45), (96, 64), (33, 64)])
def test_an_image_that_needs_no_reduction_keeps_its_centre_square_exactly(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(crop_square(reduce_whole(image, 64), 20), crop_square(image, 20))


def test_a_reduced_image_keeps_its_proportions_up_to_a_limit() -> None:
    assert reduce_whole(Image.new("RGB", (300, 200)), 96).size == (144, 96)
    assert reduce_whole(Image.new("RGB", (9000, 100)), 50).size == (200, 50)


def test_few_colours_or_a_transparent_ground_tell_pixel_art_from_photographs() -> None:
    tile = Image.fromarray(np.random.default_rng(0).integers(0, 3, (32, 32, 3), dtype=np.uint8) * 100)
    assert is_pixel_art(tile)
    assert not is_pixel_art(zoo.noise(32))
    assert not is_pixel_art(Image.new("RGB", (400, 400)))
    assert not any(is_pixel_art(crop_square(decode_image(path), size)) for path in FLOWERS for size in (24, 32, 48))
    sprite = zoo.noise(32).convert("RGBA")
    assert not is_pixel_art(sprite)
    sprite.paste((0, 0, 0, 0), (0, 0, 32, 20))
    assert is_pixel_art(sprite)


def test_pixel_art_is_enlarged_by_the_largest_whole_factor_and_centred_on_the_background() -> None:
    image = zoo.noise(12)
    square = np.asarray(enlarge_pixel_art(image, 64, "red"))
    np.testing.assert_array_equal(square[2:62, 2:62], np.asarray(image).repeat(5, 0).repeat(5, 1))
    assert {tuple(pixel) for pixel in square[:2].reshape(-1, 3)} == {(255, 0, 0)}


def test_a_sprite_fits_into_the_square_entirely_but_an_opaque_tile_fills_it() -> None:
    image = zoo.noise(48).crop((0, 0, 32, 48))
    square = np.asarray(enlarge_pixel_art(image, 64, "white"))
    np.testing.assert_array_equal(square[8:56, 16:48], image)
    tile = np.asarray(enlarge_pixel_art(image, 64, None))
    np.testing.assert_array_equal(tile, np.asarray(image)[8:40].repeat(2, 0).repeat(2, 1))


def test_the_edge_of_an_opaque_tile_is_repeated() -> None:
    tile = np.asarray(enlarge_pixel_art(zoo.noise(30), 64, None))
    np.testing.assert_array_equal(tile[:, 0], tile[:, 2])
    np.testing.assert_array_equal(tile[63], tile[61])
