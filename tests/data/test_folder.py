import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionless.data.folder import find_images, match_names, relative_name
from captionless.errors import CaptionlessError


def names(folder):
    return [relative_name(path, folder) for path in find_images(folder)]


def test_lists_every_file_sorted_by_folder_and_name(tmp_path):
    for name in ("b/2.jpg", "b/1.JPG", "a.png", "b/c/notes.txt", "Gänseblümchen 花.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["Gänseblümchen 花.JPG", "a.png", "b/1.JPG", "b/2.jpg", "b/c/notes.txt"]


def test_paths_are_absolute_also_for_a_relative_folder(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert find_images(".") == [tmp_path / "a.png"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    (tmp_path / ".git").mkdir()
    for name in (".hidden.jpg", ".git/a.jpg", "a.jpg"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.jpg"]


def test_a_hidden_folder_that_is_asked_for_is_read(tmp_path):
    (tmp_path / ".photos").mkdir()
    (tmp_path / ".photos" / "a.jpg").touch()
    assert names(tmp_path / ".photos") == ["a.jpg"]


def test_linked_folders_are_followed_once_and_never_in_circles(tmp_path):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos" / "sub" / "a.jpg").touch()
    (tmp_path / "elsewhere" / "b.jpg").touch()
    (tmp_path / "photos" / "sub" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos" / "sub")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "photos") == ["more/b.jpg", "sub/a.jpg"]


def test_a_link_to_nowhere_is_listed(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "never.jpg")
    assert names(tmp_path) == ["gone.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_and_other_special_files_are_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == []


def test_a_sub_folder_that_cannot_be_listed_is_listed_itself(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names(tmp_path) == ["secret"]


@pytest.mark.skipif(sys.platform != "linux", reason="this system has only names in Unicode")
def test_a_name_that_is_not_unicode_becomes_one_that_can_be_written(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    assert names(tmp_path) == ["caf\\udce9.jpg"]


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(CaptionlessError, match="nowhere"):
        find_images(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(CaptionlessError, match="is a file"):
        find_images(tmp_path / "a.jpg")


# Paths from a table


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def matched(names, keys, folder="/data/flowers"):
    return match_names(names, keys, folder)


def test_the_same_path_matches():
    assert matched(["rose/a.jpg", "a.jpg"], ["a.jpg", "rose/a.jpg"]) == {"rose/a.jpg": "rose/a.jpg", "a.jpg": "a.jpg"}


@pytest.mark.parametrize(
    "key",
    [
        "/data/flowers/rose/a.jpg",
        "./rose/a.jpg",
        "a.jpg",
        "rose\\a.jpg",
    ],
)
def test_absolute_paths_and_plain_names_match_where_that_is_unambiguous(key):
    assert matched(["rose/a.jpg", "tulip/b.jpg"], [key]) == {"rose/a.jpg": key}


def test_a_plain_name_that_fits_two_images_matches_none():
    assert matched(["rose/a.jpg", "tulip/a.jpg"], ["a.jpg"]) == {}


def test_two_paths_that_fit_one_image_match_none():
    assert matched(["rose/a.jpg"], ["/data/flowers/rose/a.jpg", "a.jpg"]) == {}


def test_the_path_inside_the_folder_comes_before_a_plain_name():
    assert matched(["a.jpg", "rose/a.jpg"], ["/data/flowers/a.jpg"]) == {"a.jpg": "/data/flowers/a.jpg"}


def test_only_whole_names_match():
    assert matched(["rose/a.jpg"], ["primrose/a.jpg", "/elsewhere/prose/a.jpg", "aa.jpg"]) == {}


@given(st.sets(NAMES, max_size=5), st.sets(NAMES, max_size=5))
def test_matching_gives_each_vector_to_one_image_at_most(names, keys):
    result = matched(names, keys)
    assert set(result) <= names
    assert set(result.values()) <= keys
    assert len(set(result.values())) == len(result)
