"""The contract of captionless.data.labels: classes by name, from sub-folders or from a table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from captionless.data.labels import find_labels, read_label_table
from captionless.errors import CaptionlessError

NAMES = ["cover.jpg", "daisy/1.jpg", "daisy/small/2.jpg", "rose/1.jpg", "rose/3.jpg"]


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(CaptionlessError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message
    return message


def table(folder: Path, text: str) -> str:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


# --- sub-folders ---


def test_an_image_is_labelled_by_the_folder_directly_under_the_one_that_was_named() -> None:
    labels = find_labels("photos", NAMES)
    assert labels.by_name == {
        "daisy/1.jpg": "daisy",
        "daisy/small/2.jpg": "daisy",
        "rose/1.jpg": "rose",
        "rose/3.jpg": "rose",
    }


def test_an_image_directly_in_the_folder_has_no_label() -> None:
    labels = find_labels("photos", NAMES)
    assert "cover.jpg" not in labels.by_name
    assert labels.missing_reason.startswith("no label: the image is not in a sub-folder")


def test_whitespace_and_spellings_of_accents_make_no_further_classes() -> None:
    labels = find_labels("photos", [" rose /1.jpg", "rose/2.jpg", "caf\u00e9/1.jpg", "cafe\u0301/2.jpg"])
    assert sorted(set(labels.by_name.values())) == ["caf\u00e9", "rose"]


def test_a_single_sub_folder_is_no_choice_and_may_hold_the_classes() -> None:
    message = error_of(lambda: find_labels("data", ["all/daisy/1.jpg", "all/rose/1.jpg"]))
    assert "only one class (all)" in message
    assert "use that folder" in message
    assert str(Path("data/all")) in message
    assert "`labels=FILE.csv`" in message


def test_without_sub_folders_there_is_no_class() -> None:
    assert "no class" in error_of(lambda: find_labels("photos", ["1.jpg", "2.jpg"]))


# --- tables ---


def test_a_table_labels_by_relative_path_plain_name_or_absolute_path(tmp_path: Path) -> None:
    absolute = (tmp_path / "rose" / "3.jpg").as_posix()
    source = table(tmp_path, f"file,label\nrose/1.jpg,flower\n2.jpg,weed\n{absolute},flower\n")
    labels = find_labels(tmp_path, NAMES, source)
    assert labels.by_name == {"rose/1.jpg": "flower", "daisy/small/2.jpg": "weed", "rose/3.jpg": "flower"}
    assert labels.unmatched == ()


def test_a_plain_name_that_fits_two_files_labels_neither_and_is_told(tmp_path: Path) -> None:
    labels = find_labels(tmp_path, NAMES, table(tmp_path, "file,label\n1.jpg,a\n2.jpg,b\n3.jpg,c\nelsewhere.jpg,d\n"))
    assert set(labels.by_name) == {"daisy/small/2.jpg", "rose/3.jpg"}
    assert labels.unmatched == ("1.jpg", "elsewhere.jpg")


def test_a_table_may_begin_with_a_byte_order_mark_and_hold_blank_lines_spaces_and_further_columns(
    tmp_path: Path,
) -> None:
    source = table(tmp_path, "\ufeffLabel , File,author\n\n rose ,rose/1.jpg,Ada\ncaf\u0065\u0301,daisy/1.jpg,Bob\n")
    assert read_label_table(source) == {"rose/1.jpg": "rose", "daisy/1.jpg": "caf\u00e9"}


def test_an_empty_label_is_none(tmp_path: Path) -> None:
    labels = find_labels(tmp_path, NAMES, table(tmp_path, "file,label\nrose/1.jpg,a\nrose/3.jpg,b\ndaisy/1.jpg, \n"))
    assert set(labels.by_name) == {"rose/1.jpg", "rose/3.jpg"}
    assert "labels.csv has no label for the image" in labels.missing_reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: the header lacks file and label"),
        ("rose/1.jpg,rose\n", "line 1: the header lacks file and label (found: rose/1.jpg,rose)"),
        ("file;label\nrose/1.jpg;rose\n", "line 1: the header lacks file and label"),
        ("file,class\n", "line 1: the header lacks label"),
        ("file,label\n", "contains no labels"),
        ("file,label\nrose/1.jpg\n", "line 2: a value is missing"),
        ("file,label\n,rose\n", "line 2: the file name is empty"),
        ("file,label\nrose/1.jpg,a\nrose/1.jpg,b\n", "line 3: an earlier line gives rose/1.jpg the label 'a'"),
        ('file,label\n"rose/1.jpg,a\n', "the line is not valid CSV"),
        ("file,label\nx.jpg,a\ny.jpg,b\n", "contains no path that matches a file in"),
        ("file,label\nrose/1.jpg,a\nrose/3.jpg,a\n", "only one class (a)"),
        ("file,label\nrose/1.jpg,\n", "no class"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    source = table(tmp_path, text)
    message = error_of(lambda: find_labels(tmp_path, NAMES, source))
    assert source in message
    assert told in message


def test_a_missing_table_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    assert "nowhere.csv: No such file" in error_of(lambda: read_label_table(tmp_path / "nowhere.csv"))
    (tmp_path / "labels.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1")
    assert "labels.xls is not UTF-8 text" in error_of(lambda: read_label_table(tmp_path / "labels.xls"))


def test_labels_are_read_without_torch() -> None:
    code = "import sys, captionless.data.labels; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
