import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionless.data.folder import match_names
from captionless.encoders.table import read_vectors, write_vectors
from captionless.errors import CaptionlessError

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=40)
@given(st.dictionaries(NAMES, st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_names_and_every_bit_of_their_vectors_survive(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "clip.csv"
    expected = np.array(list(table.values()), np.float32)
    write_vectors(path, list(table), expected)
    read = read_vectors(path, width=3)
    assert list(read) == list(table)
    assert np.stack(list(read.values())).tobytes() == expected.tobytes()
    assert all(vector.dtype == np.float32 for vector in read.values())


def test_the_file_is_plain_path_and_numbers_without_a_header(tmp_path):
    write_vectors(
        tmp_path / "clip.csv", ["rose/a b.jpg", 'odd,"name".png'], np.array([[0.5, -1], [2, 1e-9]], np.float32)
    )
    text = (tmp_path / "clip.csv").read_text("utf-8")
    assert text == 'rose/a b.jpg,0.5,-1\n"odd,""name"".png",2,9.99999972e-10\n'


def write(tmp_path, text):
    path = tmp_path / "clip.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text", ["a.jpg,1,2\r\nb.jpg,3,4\r\n", "\ufeffa.jpg,1,2\n\nb.jpg,3,4", "a.jpg, 1 ,2\nb.jpg,3,4e0\n"]
)
def test_other_programs_ways_of_writing_it_are_understood(tmp_path, text):
    read = read_vectors(write(tmp_path, text))
    assert {name: vector.tolist() for name, vector in read.items()} == {"a.jpg": [1, 2], "b.jpg": [3, 4]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,1,2,3\nb.jpg,1,2\n", "line 2: 2 numbers instead of 3"),
        ("a.jpg,1,2,3\nb.jpg,1,2,3,4\n", "line 2: 4 numbers instead of 3"),
        ("a.jpg\n", "line 1: 0 numbers instead of some"),
        ("path,clip_0,clip_1\na.jpg,1,2\n", "line 1: could not convert string to float: 'clip_0'"),
        ("a.jpg,1,2\nb.jpg,1,two\n", "line 2: could not convert string to float: 'two'"),
        ("a.jpg,1,\n", "line 1: could not convert string to float: ''"),
        ("a.jpg,1,nan\n", "line 1: 'nan' is not a finite number"),
        ("a.jpg,1,1e39\n", "line 1: '1e39' is not a finite number"),
        ("a.jpg,1,2\nb.jpg,1,2\na.jpg,3,4\n", "line 3: line 1 already has a.jpg"),
        (",1,2\n", "line 1: the path is empty"),
        ('"a.jpg,1,2\n', "this is not CSV"),
        ("", "is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(CaptionlessError, match=re.escape(message)) as caught:
        read_vectors(write(tmp_path, text))
    assert "clip.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_width_that_is_asked_for_is_checked_from_the_first_line_on(tmp_path):
    with pytest.raises(CaptionlessError, match="line 1: 2 numbers instead of 512"):
        read_vectors(write(tmp_path, "a.jpg,1,2\n"), width=512)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(CaptionlessError, match=r"cannot read .*none\.csv: No such file"):
        read_vectors(tmp_path / "none.csv")


def test_names_and_vectors_must_be_as_many(tmp_path):
    with pytest.raises(ValueError, match="2 names, but 1 vectors"):
        write_vectors(tmp_path / "clip.csv", ["a", "b"], np.zeros((1, 3), np.float32))


# Which vector belongs to which picture


def matched(names, keys, folder="/data/flowers"):
    return match_names(names, keys, folder)


def test_the_same_path_matches():
    assert matched(["rose/a.jpg", "a.jpg"], ["a.jpg", "rose/a.jpg"]) == {"rose/a.jpg": "rose/a.jpg", "a.jpg": "a.jpg"}


@pytest.mark.parametrize(
    "key",
    [
        "/data/flowers/rose/a.jpg",
        "/another/machine/rose/a.jpg",
        "flowers/rose/a.jpg",
        "./rose/a.jpg",
        "a.jpg",
        "rose\\a.jpg",
        "C:\\data\\rose\\a.jpg",
    ],
)
def test_absolute_paths_longer_paths_and_plain_names_match_where_that_is_unambiguous(key):
    assert matched(["rose/a.jpg", "tulip/b.jpg"], [key]) == {"rose/a.jpg": key}


def test_a_plain_name_that_fits_two_images_matches_none():
    assert matched(["rose/a.jpg", "tulip/a.jpg"], ["a.jpg"]) == {}


def test_two_paths_that_fit_one_image_match_none():
    assert matched(["rose/a.jpg"], ["/x/rose/a.jpg", "/y/rose/a.jpg"]) == {}


def test_an_exact_path_wins_over_one_that_only_fits():
    assert matched(["rose/a.jpg"], ["/x/rose/a.jpg", "rose/a.jpg"]) == {"rose/a.jpg": "rose/a.jpg"}


def test_the_folders_own_absolute_path_wins_over_a_longer_likeness():
    names = ["a.jpg", "flowers/a.jpg"]
    assert matched(names, ["/data/flowers/a.jpg"]) == {"a.jpg": "/data/flowers/a.jpg"}


def test_only_whole_names_match():
    assert matched(["rose/a.jpg"], ["primrose/a.jpg", "extra.jpg", "aa.jpg"]) == {}


@given(st.sets(NAMES, max_size=5), st.sets(NAMES, max_size=5))
def test_matching_gives_each_vector_to_one_image_at_most(names, keys):
    result = matched(names, keys)
    assert set(result) <= names
    assert set(result.values()) <= keys
    assert len(set(result.values())) == len(result)
