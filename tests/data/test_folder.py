import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import image_zoo as zoo
from captionless.data.folder import find_images, match_names, relative_name
from captionless.data.images import ImageFile, SkippedFile, read_images
from captionless.encoders.image_texts import image_texts
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
def test_pipes_and_other_special_files_are_skipped_with_their_kind(tmp_path):
    zoo.fill(tmp_path, 1)
    for name in ("pipe.jpg", "pipe.tar"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    skipped = [(one.name, one.reason) for one in read_images(tmp_path) if isinstance(one, SkippedFile)]
    pipes = [(name, "not an image: a FIFO") for name in ("pipe.jpg", "pipe.tar")]
    assert skipped == [*pipes, ("zero.png", "not an image: a device")]
    assert len(image_texts(tmp_path)) == 1


def test_a_sub_folder_that_cannot_be_listed_is_listed_itself(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names(tmp_path) == ["secret"]


BAD_LINKS = {"self": "bad.jpg", "through a file": "good.jpg/inside.jpg", "too long": "0" * 300, "nowhere": "gone.jpg"}


@pytest.mark.parametrize("target", BAD_LINKS.values(), ids=BAD_LINKS)
@pytest.mark.parametrize("place", ["", "sub"])
def test_a_bad_link_is_one_skipped_file_and_costs_no_other(tmp_path, place, target):
    zoo.fill(tmp_path / place, 3)
    (tmp_path / place / "bad.jpg").symlink_to(target)
    found = list(read_images(tmp_path))
    assert [type(one) for one in found] == [ImageFile] * 3 + [SkippedFile]
    assert found[-1].name.endswith("bad.jpg")
    assert found[-1].reason.startswith("cannot be read: ")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user is needed")
def test_locked_folders_and_links_into_them_are_skipped_files(tmp_path):
    for name in ("photos/open", "photos/locked", "closed/inside"):
        zoo.fill(tmp_path / name, 1)
    (tmp_path / "photos" / "into.png").symlink_to(tmp_path / "closed" / "inside" / "000.png")
    for locked in (tmp_path / "photos" / "locked", tmp_path / "closed"):
        locked.chmod(0)
    reader, writer = os.pipe()
    if not (child := os.fork()):  # as a user to whom locks apply
        try:
            for place in (tmp_path, *tmp_path.parents[:-1]):
                place.chmod(0o755)
            os.setuid(65534)
            found = [f"{one.name}|{getattr(one, 'reason', '')}" for one in read_images(tmp_path / "photos")]
            os.write(writer, "\n".join(found).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as file:
        found = file.read().split("\n")
    assert found == [
        "into.png|cannot be read: Permission denied",
        "locked|cannot be read: the folder cannot be listed",
        "open/000.png|",
    ]


SYSTEM = ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX", "@Recycle"]


def test_folders_of_the_system_are_left_out_and_listed(tmp_path):
    zoo.fill(tmp_path / "roses", 2)
    for name in SYSTEM:
        zoo.fill(tmp_path / name / "deep", 1)
    zoo.fill(tmp_path / "roses" / "@eaDir" / "000.png", 1)
    (tmp_path / "lost+found.png").write_bytes(b"")
    found = {one.name: one for one in read_images(tmp_path)}
    assert {name for name, one in found.items() if isinstance(one, ImageFile)} == {"roses/000.png", "roses/001.png"}
    left_out = {name for name, one in found.items() if getattr(one, "reason", "") == "system folder: left out"}
    assert left_out == {*SYSTEM, "roses/@eaDir"}


@pytest.mark.skipif(os.name != "posix", reason="names are shorter on this system")
def test_very_deep_folders_are_listed(tmp_path):
    place = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(1200):  # deeper than Python calls functions
        os.mkdir("d", dir_fd=place)
        place, before = os.open("d", os.O_DIRECTORY, dir_fd=place), place
        os.close(before)
    os.close(os.open("a.png", os.O_CREAT, dir_fd=place))
    os.close(place)
    found = names(tmp_path)
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # too deep for Python
    assert found == ["d/" * 1200 + "a.png"]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "file/inside"])
def test_a_folder_that_cannot_exist_is_one_line(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(CaptionlessError, match=r"cannot list|there is no folder"):
        find_images(tmp_path / name)


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    zoo.fill(tmp_path / "photos", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_images("~/photos") == [tmp_path / "photos" / "000.png"]
    assert [one.name for one in read_images("~/photos")] == ["000.png"]


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


@pytest.mark.parametrize(
    "name", ["caf\u00e9.jpg", "\u00fcbung/se\u00f1or.jpg", "\uac00.jpg", "\u0439.jpg", "\u304c.jpg"]
)
@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_match_composed_or_decomposed(name, forms):
    file, key = (unicodedata.normalize(form, name) for form in forms)
    assert matched([file, "b.jpg"], [key]) == {file: key}
    assert matched([file, "b.jpg"], [key.replace("/", "\\")]) == {file: key.replace("/", "\\")}


def test_two_files_that_differ_by_accents_alone_match_their_own_spelling_only():
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    assert matched([composed, decomposed], [composed, decomposed]) == {composed: composed, decomposed: decomposed}


@pytest.mark.parametrize("start", ["data/cropped_flowers/", "C:\\Users\\Ann\\flowers\\", "/home/ann/flowers/", "../x/"])
def test_a_table_that_was_written_where_the_folder_lay_elsewhere_matches(start):
    names = ["daisy/1.jpg", "rose/1.jpg", "top.jpg"]
    keys = [start + name.replace("/", "\\" if "\\" in start else "/") for name in names]
    assert matched(names, keys) == dict(zip(names, keys, strict=True))


def test_of_several_folders_in_such_a_table_the_one_of_that_name_counts_or_the_best_one():
    keys = ["train/rose/1.jpg", "test/rose/1.jpg", "test/rose/2.jpg"]
    assert matched(["rose/1.jpg"], keys, "/elsewhere/train") == {"rose/1.jpg": "train/rose/1.jpg"}
    assert matched(["rose/1.jpg"], keys[:2]) == {}
    names = ["rose/1.jpg", "rose/2.jpg"]
    assert matched(names, keys) == dict(zip(names, keys[1:], strict=True))


def test_the_folder_may_be_spelled_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    key = str(tmp_path / "real" / "a.jpg")
    assert match_names(["a.jpg", "sub/a.jpg"], [key], tmp_path / "link") == {"a.jpg": key}


@given(st.sets(NAMES, max_size=5), st.sets(NAMES, max_size=5))
def test_matching_gives_each_vector_to_one_image_at_most(names, keys):
    result = matched(names, keys)
    assert set(result) <= names
    assert set(result.values()) <= keys
    assert len(set(result.values())) == len(result)
