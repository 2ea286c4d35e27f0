"""The contract of captionless.data.arrays: a folder of pictures as arrays, without any encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import encoder_factory
from captionless.data.arrays import Visitor, read_arrays
from captionless.data.crop import crop_square
from captionless.data.decode import decode_image
from captionless.data.images import ImageFile
from captionless.errors import CaptionlessError
from progress_cases import Recorded


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(cache))
    return cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, image in enumerate(encoder_factory.pictures(3, side=16)):
        image.save(tmp_path / f"{i}.png")
    (tmp_path / "0.png").rename(tmp_path / "9.png")
    (tmp_path / "2.txt").write_text("no picture")
    return tmp_path


def test_every_usable_image_has_its_row_in_the_order_of_the_files(folder: Path) -> None:
    found = read_arrays(folder, (8, 12))
    assert found.names == ["1.png", "2.png", "9.png"]
    assert [entry.name for entry in found.entries] == ["1.png", "2.png", "2.txt", "9.png"]
    assert found.pixels[12].shape == (3, 12, 12, 3)
    expected = [np.asarray(crop_square(decode_image(folder / name), 8)) for name in found.names]
    np.testing.assert_array_equal(found.pixels[8], np.stack(expected))
    np.testing.assert_array_equal(found.array(8, [2, 0]), np.stack([expected[2], expected[0]]))


def test_grey_squares_have_one_channel(folder: Path) -> None:
    assert read_arrays(folder, (8,), grey=True).pixels[8].shape == (3, 8, 8, 1)


def test_an_image_that_a_visitor_rejects_counts_as_skipped_for_the_reason_given_and_has_no_row(folder: Path) -> None:
    class Picky(Visitor):
        def visit(self, image: ImageFile) -> str:
            return "no label: none" if image.name == "1.png" else ""

    found = read_arrays(folder, (8,), visitor=Picky())
    assert found.names == ["2.png", "9.png"]
    assert [(entry.name, entry.reason) for entry in found.skipped] == [
        ("1.png", "no label: none"),
        ("2.txt", "not an image"),
    ]
    assert len(found.pixels[8]) == 2


def test_progress_counts_every_file(folder: Path) -> None:
    progress = Recorded()
    read_arrays(folder, (8,), progress=progress)
    assert progress.advanced == [("Reading images", done, 4) for done in (1, 2, 3, 4)]


def test_more_than_fits_on_the_disk_is_a_clear_error(folder: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"4 images of .* need .* GB in the cache folder"):
        read_arrays(folder, (10**8,))
