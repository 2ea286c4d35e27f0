"""Small inputs that once went wrong, from a folder beside the repository; tests of their kinds with inputs made on the
spot are listed in ``tests/KINDS.md``."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest

from captionless.data.csv_rows import unguarded
from captionless.data.decode import decode_quietly
from captionless.data.folder import find_images, relative_name
from captionless.data.images import ImageFile, read_images, write_images_report
from captionless.data.labels import find_labels, read_label_table
from captionless.encoders.vector_csv import match_vectors, read_vectors
from captionless.errors import CaptionlessError
from captionless.generation.prompts import read_prompts
from shared_cases import CASES, make_cases, needs_cases

pytestmark = needs_cases

READ = [
    *("browser.jfif", "photo.jpg.1", "rose.jpg_large", "tulip.jpg (1)", "drawing.dib", "loop.apng", "sunset at 5.30"),
    *("phone_export.HEIC", "picture.avif", "avif_called.png", "photo.HEIC", "heic_called.jpg", "DSC00042.HIF"),
    *("jp2_called.jpg", "picture.ppm", "face.pgm", "png_large_xmp.png", "float_rgb.tif", "float16_grey.tif"),
    *("linear_gimp.png", "linear_d65.jpg", "grey_alpha_gamma18.png"),
]
NOTED = {
    "grey_12in16.png": "taken for 12-bit samples",
    "grey_12in16.tif": "taken for 12-bit samples",
    "bmp_zero_alpha.bmp": "transparent everywhere",
    "transparent.png": "transparent everywhere",
}
SKIPPED = {"jxl_called.jpg": "JPEG XL", "lfs_pointer.jpg": "git lfs pull"}
LINEAR = [(128, 128, 128), (229, 79, 79), (79, 160, 79), (38, 38, 38)]
SQUARES = {
    "linear_gimp.png": (LINEAR, 1),
    "linear_d65.jpg": (LINEAR, 3),
    "grey_alpha_gamma18.png": ([(71,) * 3, (146,) * 3, (210,) * 3, (255,) * 3], 1),
}


def images(folder: Path) -> list[str]:
    return [one.name for one in read_images(folder) if isinstance(one, ImageFile)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cases(tmp_path_factory.mktemp("cases"))


@pytest.mark.parametrize("name", [*READ, *NOTED])
def test_is_read(name: str) -> None:
    if b"ftyphei" in (CASES / name).read_bytes()[:32]:
        pytest.importorskip("pillow_heif")
    image, notes = decode_quietly((CASES / name).read_bytes())
    assert not isinstance(image, str), image
    assert np.asarray(image.convert("L"), int).std() > 20
    assert NOTED.get(name, "") in "".join(notes)
    assert bool(notes) == (name in NOTED)


@pytest.mark.parametrize(("name", "reason"), SKIPPED.items())
def test_is_skipped_with_its_reason(name: str, reason: str) -> None:
    assert reason in str(decode_quietly((CASES / name).read_bytes())[0])


@pytest.mark.parametrize(("name", "expected"), SQUARES.items())
def test_has_the_right_pixels(name: str, expected: tuple[list[tuple[int, ...]], int]) -> None:
    from captionless.data.decode import decode_image

    image = decode_image(CASES / name)
    squares, tolerance = expected
    quarter = image.width // 4
    for i, square in enumerate(squares):
        found = image.getpixel((quarter * (1 + 2 * (i % 2)), quarter * (1 + 2 * (i // 2))))
        assert max(abs(a - b) for a, b in zip(found, square, strict=True)) <= tolerance


def test_folders_of_the_system_are_left_out() -> None:
    assert len(images(CASES / "nas")) == 4
    names = [one.name for one in read_images(CASES / "nas") if isinstance(one, ImageFile)]
    assert set(find_labels(CASES / "nas", names).by_name.values()) == {"roses", "tulips"}


@pytest.mark.parametrize("name", ["self", "sub", "locked", "through", "long"])
def test_a_bad_link_costs_no_other_image(made: Path, name: str) -> None:
    folder = made / "links" / name
    found = list(read_images(folder))
    assert sum(isinstance(one, ImageFile) for one in found) == 4 + (name == "locked" and os.geteuid() == 0)
    assert len(found) == 5


def test_accents_match_in_a_table(made: Path) -> None:
    folder = made / "names" / "accents"
    names = images(folder / "pictures")
    labels = find_labels(folder / "pictures", names, str(folder / "labels.csv"))
    assert sorted(labels.by_name.values()) == ["blue", "blue", "red", "red", "red"]


def test_formulas_reach_no_table(made: Path, tmp_path: Path) -> None:
    folder = made / "names" / "formulas"
    write_images_report(tmp_path / "report.csv", read_images(folder))
    with io.StringIO((tmp_path / "report.csv").read_text("utf-8"), newline="") as file:
        rows = list(csv.reader(file))
    assert not [cell for row in rows for cell in row if cell.startswith(tuple("=+-@\t\r"))]
    assert [unguarded(row[0]) for row in rows[1:]] == [relative_name(path, folder) for path in find_images(folder)]


def test_a_table_with_an_unquoted_comma_is_refused_with_its_line() -> None:
    with pytest.raises(CaptionlessError, match=r"labels\.csv, line 3: 3 values under a header of 2"):
        read_label_table(CASES / "labels_comma" / "labels.csv")


def test_windows_paths_match_the_images() -> None:
    folder = CASES / "clip_backslash"
    names = images(folder / "pictures")
    with (folder / "clip.csv").open() as file:
        width = len(file.readline().split(",")) - 1
    assert match_vectors(read_vectors(folder / "clip.csv", width), names, folder / "pictures").shape == (4, width)


def test_prompts_are_read_line_by_line() -> None:
    third = read_prompts(CASES / "prompts.jsonl")[2]
    assert (third.text, third.negative, third.seed, third.n, third.guidance) == ("a yellow tulip", "leaves", 7, 2, 3)
    assert len(read_prompts(CASES / "prompts_separators.txt")) == 3


def test_a_very_tall_image_is_skipped(made: Path) -> None:
    with pytest.raises(CaptionlessError, match="too large: 1"):
        images(made / "large" / "tall")
