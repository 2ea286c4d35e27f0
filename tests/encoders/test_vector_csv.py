import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionless.encoders.vector_csv import match_vectors, read_vectors, write_vectors
from captionless.errors import CaptionlessError

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1)
VECTORS = st.tuples(st.just(1.0), *[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 2)


@settings(max_examples=40)
@given(
    st.dictionaries(
        NAMES,
        VECTORS,
        min_size=1,
        max_size=5,
    )
)
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
    read = read_vectors(write(tmp_path, text), 2)
    assert {name: vector.tolist() for name, vector in read.items()} == {"a.jpg": [1, 2], "b.jpg": [3, 4]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,1,2\nb.jpg,1\n", "line 2: 1 numbers instead of 2"),
        ("a.jpg\n", "line 1: 0 numbers instead of 2"),
        ("path,clip_0,clip_1\na.jpg,1,2\n", "line 1: could not convert string to float: 'clip_0'"),
        ("a.jpg,1,2\nb.jpg,1,\n", "line 2: could not convert string to float: ''"),
        ("a.jpg,1,nan\n", "line 1: the vector is zero or not finite"),
        ("a.jpg,1,1e39\n", "line 1: the vector is zero or not finite"),
        ("a.jpg,0,0\n", "line 1: the vector is zero or not finite"),
        ("a.jpg,1,2\nb.jpg,1,2\na.jpg,3,4\n", "line 3: an earlier line already has a.jpg"),
        ('"a.jpg,1,2\n', "the line is not valid CSV"),
        ("", "is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(CaptionlessError, match=re.escape(message)) as caught:
        read_vectors(write(tmp_path, text), 2)
    assert "clip.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(CaptionlessError, match=r"cannot read .*none\.csv: No such file"):
        read_vectors(tmp_path / "none.csv", 2)


# Which vector belongs to which image

FITTING = ["rose/1.png", "/photos/rose/2.png", "twin.png"]
IMAGES = ["rose/1.png", "rose/2.png", "copy/twin.png"]


def test_each_image_gets_its_vector_at_length_1():
    table = dict(zip(FITTING, np.array([[3, 4], [0, 2], [1, 0]], np.float32), strict=True))
    vectors = match_vectors(table, IMAGES, "/photos")
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, [[0.6, 0.8], [0, 1], [1, 0]])
    assert np.array_equal(match_vectors(dict(zip(IMAGES, vectors, strict=True)), IMAGES, "/photos"), vectors)


def test_images_without_a_vector_are_an_error_that_names_some():
    with pytest.raises(CaptionlessError, match=r"no vector for some images of /photos: rose/2\.png, copy/twin\.png\."):
        match_vectors({"rose/1.png": np.ones(2, np.float32)}, IMAGES, "/photos")


def test_vectors_without_an_image_are_passed_over_with_a_warning():
    table = dict.fromkeys([*FITTING, "gone.png"], np.ones(2, np.float32))
    with pytest.warns(UserWarning, match=r"1 vectors in the table match no image .* for example gone\.png"):
        match_vectors(table, IMAGES, "/photos")


@pytest.mark.parametrize(
    "content",
    [
        *(b"\x89PNG\r\n\x1a\n\0\0", b"file,label\na.jpg,rose\n", b"some notes", b"\n"),
        *(b"a.jpg,3.5\n", b"a.jpg,1\n", b"a.jpg,0,1,0\n", b"a.jpg,0.6,0.8,rose\n", b"a.jpg\n"),
    ],
)
def test_what_is_no_table_of_vectors_is_not_replaced(tmp_path, content):
    path = write(tmp_path, content)
    with pytest.raises(CaptionlessError, match="no table of vectors"):
        write_vectors(path, ["a.jpg"], np.ones((1, 2), np.float32))
    assert path.read_bytes() == content


@pytest.mark.parametrize("before", ["", '"a\nb.jpg",0.6,0.8\n'])
def test_a_table_of_vectors_is_replaced(tmp_path, before):
    path = write(tmp_path, before)
    write_vectors(path, ["a.jpg"], np.ones((1, 2), np.float32))
    assert path.read_text() == "a.jpg,1,1\n"
