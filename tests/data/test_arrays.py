"""The contract of captionless.data.arrays: a folder of pictures as arrays, without any encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import encoder_factory
from captionless.data.arrays import read_arrays
from captionless.data.images import SkippedFile, read_images
from captionless.errors import CaptionlessError
from progress_cases import Recorded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, image in enumerate(encoder_factory.pictures(3)):
        image.save(tmp_path / f"{i}.png")
    (tmp_path / "0.png").rename(tmp_path / "9.png")
    (tmp_path / "2.txt").write_text("no picture")
    return tmp_path


def test_every_usable_image_has_its_row_in_the_order_of_the_files(folder: Path) -> None:
    found = read_arrays(folder, (8, 12))
    assert found.names == ["1.png", "2.png", "9.png"]
    assert [entry.name for entry in found.entries] == ["1.png", "2.png", "2.txt", "9.png"]
    assert found.pixels[12].shape == (3, 12, 12, 3)
    expected = [entry.pixels[8] for entry in read_images(folder, (8,)) if not isinstance(entry, SkippedFile)]
    np.testing.assert_array_equal(found.pixels[8], np.stack(expected))


def test_grey_squares_have_one_channel(folder: Path) -> None:
    assert read_arrays(folder, (8,), grey=True).pixels[8].shape == (3, 8, 8, 1)


def test_an_image_that_a_visitor_rejects_counts_as_skipped_for_the_reason_given_and_has_no_row(folder: Path) -> None:
    found = read_arrays(folder, (8,), visit=lambda picture: "no label: none" if picture.name == "1.png" else "")
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


def test_more_than_fits_into_memory_is_a_clear_error(folder: Path) -> None:
    with pytest.raises(CaptionlessError, match=r"4 images of .* do not fit into memory"):
        read_arrays(folder, (10**8,))
