"""Tables are read with line numbers, and written so that no spreadsheet runs a name."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionless.checkpoints.image_list import read_image_list, write_image_list
from captionless.data.csv_rows import guarded, read_rows, unguarded, write_rows
from captionless.data.images import SkippedFile, write_images_report
from captionless.encoders.vector_csv import read_vectors, write_vectors
from captionless.errors import CaptionlessError
from platforms import DEVICES

FORMULAS = [
    *("=1+2.jpg", "+3.jpg", "-4+5.jpg", "@SUM(1,2).jpg", '=HYPERLINK("x","y").jpg', "\t=6.jpg", "=class/7.jpg"),
    *("'=8.jpg", "''-9.jpg", "'plain.jpg", "plain/10.jpg", "\r11.jpg", "\n12.jpg", "＝13.jpg"),
]


def error_of(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaptionlessError) as caught:
        list(read_rows(path, ("file", "label")))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_more_values_than_columns_are_an_error_with_its_line(tmp_path):
    text = "file,label\nrose.jpg,red\ntulip.jpg,red, white and blue\n"
    assert "labels.csv, line 3: 3 values under a header of 2 columns" in error_of(tmp_path, text)


def test_quotes_count_after_a_blank(tmp_path):
    (tmp_path / "labels.csv").write_text('file,label\niris.jpg, "blue, dark"\n')
    assert [row.values for row in read_rows(tmp_path / "labels.csv", ("file", "label"))] == [["iris.jpg", "blue, dark"]]


def test_a_quoted_line_break_in_a_header_leaves_the_error_on_one_line(tmp_path):
    assert r"(found: \n)" in error_of(tmp_path, '"\n"')


def test_a_field_of_a_million_characters_and_a_quote_that_never_ends_are_one_line(tmp_path):
    for text in (f"{'x' * 10**6},red\n", '"' + "rose\n" * 10**6):
        assert "the line is not valid CSV" in error_of(tmp_path, "file,label\n" + text)


@DEVICES
def test_a_device_that_never_ends_is_one_line():
    with pytest.raises(CaptionlessError, match=r"cannot read /dev/zero: a line is longer than"):
        list(read_rows("/dev/zero"))


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "a\0.csv", ""])
def test_a_path_that_cannot_exist_is_one_line(tmp_path, name):
    with pytest.raises(CaptionlessError, match="cannot read"):
        list(read_rows(tmp_path / name))


@given(st.text())
def test_what_is_guarded_is_no_formula_and_comes_back(cell):
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(tuple("=+-@\t\r"))


def test_no_cell_of_any_table_begins_like_a_formula_and_all_are_read_back(tmp_path):
    write_images_report(tmp_path / "report.csv", [SkippedFile(name, "not an image", ("=note",)) for name in FORMULAS])
    write_image_list(tmp_path, [(name, "0" * 64, "train", "=label") for name in FORMULAS])
    write_vectors(tmp_path / "clip.csv", FORMULAS, zoo_vectors(len(FORMULAS)))
    for path in (tmp_path / "report.csv", tmp_path / "pictures.csv", tmp_path / "clip.csv"):
        cells = [cell for row in csv.reader(io.StringIO(path.read_text("utf-8"), newline="")) for cell in row]
        assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r")) and not is_number(cell)]
    assert [row[0] for row in read_image_list(tmp_path)] == FORMULAS
    assert list(read_vectors(tmp_path / "clip.csv", 2)) == FORMULAS


def zoo_vectors(count):
    import numpy as np

    return np.tile(np.array([0.5, -1], np.float32), (count, 1))


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_rows_are_written_as_they_are_otherwise():
    file = io.StringIO()
    write_rows(file, [("a b.jpg", -1, 'odd,"name"')])
    assert file.getvalue() == 'a b.jpg,-1,"odd,""name"""\r\n'
