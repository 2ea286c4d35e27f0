import os
import shutil
import stat

import pytest

from captionless.errors import CaptionlessError
from captionless.files import atomic_folder, atomic_write


def test_writes_a_new_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "deep" / "er" / "new.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("hello")
    assert path.read_text() == "hello"


def test_the_old_content_stays_until_the_new_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def write_half(path, error):
    with atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_interruption_leaves_the_old_content_and_no_rubbish(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_clear_line_and_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(CaptionlessError) as caught, atomic_write(path):
        raise OSError(28, "No space left on device")
    assert "No space left on device" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CaptionlessError, match="cannot write"), atomic_write(tmp_path / "file" / "a.txt"):
        pass


def test_a_callers_own_error_is_passed_on_unchanged(tmp_path):
    with pytest.raises(CaptionlessError, match="mine"), atomic_write(tmp_path / "a"):
        raise CaptionlessError("mine")


@pytest.mark.skipif(os.name != "posix", reason="permissions of this kind exist on POSIX only")
def test_the_file_gets_ordinary_permissions(tmp_path):
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("x")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_a_name_of_any_letters_is_fine(tmp_path):
    with atomic_write(tmp_path / "Gänseblümchen 花.txt") as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path) == ["Gänseblümchen 花.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "deep" / "out"
    with pytest.raises(CaptionlessError, match="cannot write"), atomic_folder(out) as temporary:
        shutil.copy(tmp_path / "missing", temporary / "a")
    assert os.listdir(tmp_path / "deep") == []
    with atomic_folder(out) as temporary:
        (temporary / "a").write_text("whole")
        assert not out.exists()
    assert (out / "a").read_text() == "whole"
    assert os.listdir(tmp_path / "deep") == ["out"]


def test_a_folder_with_content_is_never_replaced(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(CaptionlessError, match="cannot write"), atomic_folder(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "kept"
