import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from itertools import count

import pytest

from captionless import files
from captionless.errors import CaptionlessError
from captionless.files import atomic_folder, atomic_write, sweep, write_new
from platforms import DEVICES, KILLS, PERMISSIONS


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


@PERMISSIONS
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


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("old")
    (tmp_path / "to_file").symlink_to("there/file")
    (tmp_path / "to_nothing_yet").symlink_to("there/new")
    for name in ("to_file", "to_nothing_yet"):
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == name
    assert sorted(os.listdir(tmp_path / "there")) == ["file", "new"]


@DEVICES
@pytest.mark.parametrize("kind", ["fifo", "link to a fifo", "folder", "link to itself", "device"])
def test_what_is_no_file_is_left_as_it_is(tmp_path, kind):
    path = tmp_path / "it"
    if "fifo" in kind:
        os.mkfifo(tmp_path / ("it" if kind == "fifo" else "fifo"))
    if "link" in kind:
        path.symlink_to("fifo" if "fifo" in kind else "it")
    if kind == "folder":
        path.mkdir()
    if kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # another /dev/null
        except PermissionError:
            pytest.skip("only the system's root makes devices")
    before = sorted((one.name, one.lstat().st_mode) for one in tmp_path.iterdir())
    with pytest.raises(CaptionlessError, match="which is left as it is"), atomic_write(path) as temporary:
        temporary.write_text("new")
    assert sorted((one.name, one.lstat().st_mode) for one in tmp_path.iterdir()) == before


@PERMISSIONS
def test_permissions_of_a_file_survive_its_replacement(tmp_path):
    path = tmp_path / "private"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def refuse(monkeypatch, owner, name, number=errno.EPERM):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(owner, name, refused)


@PERMISSIONS
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
@pytest.mark.parametrize("name", ["chmod", "fsync", "replace", "link"])
def test_what_a_file_system_lacks_is_one_remark(tmp_path, monkeypatch, name, number):
    refuse(monkeypatch, os, name, number)
    path = tmp_path / "a"
    with pytest.warns(UserWarning, match="refuses") if name != "link" else monkeypatch.context():
        for text in ("old", "new"):
            with atomic_write(path) as temporary:
                temporary.write_text(text)
            write_new((tmp_path / f"{i}" for i in count(1)), lambda temporary: temporary.write_text("new"))
    assert [path.read_text(), (tmp_path / "1").read_text(), (tmp_path / "2").read_text()] == ["new"] * 3
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "a"]
    assert len(files._REMARKED) == (name != "link")


def test_a_folder_is_copied_where_folders_cannot_be_renamed(tmp_path, monkeypatch):
    refuse(monkeypatch, os, "replace", errno.ENOSYS)
    with pytest.warns(UserWarning, match="refuses renaming"), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("whole")
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "whole"


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_is_no_remark_but_an_error(tmp_path, monkeypatch, name, number):
    path = tmp_path / "a"
    path.write_text("old")
    refuse(monkeypatch, os, name, number)
    with pytest.raises(CaptionlessError, match=os.strerror(number)), atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failure_of_the_clearing_up_does_not_hide_the_first_one(tmp_path, monkeypatch):
    refuse(monkeypatch, os, "unlink", errno.EROFS)
    with pytest.raises(CaptionlessError, match="No space left"), atomic_write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_new_file_never_takes_a_name_that_is_in_use(tmp_path):
    (tmp_path / "1").write_text("mine")
    (tmp_path / "2").symlink_to("nowhere")
    path = write_new((tmp_path / f"{i}" for i in count(1)), lambda temporary: temporary.write_text("new"))
    assert path == tmp_path / "3"
    assert ((tmp_path / "1").read_text(), path.read_text()) == ("mine", "new")
    assert (tmp_path / "2").is_symlink()
    assert len(os.listdir(tmp_path)) == 3


def left_behind(folder):
    """Let a process leave a temporary file and a temporary folder behind."""
    code = (
        "import os, sys\nfrom captionless.files import atomic_write, atomic_folder\n"
        "with atomic_write(sys.argv[1] + '/file') as one, atomic_folder(sys.argv[1] + '/folder') as other:\n"
        "    one.write_text('half'); (other / 'half').touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == 9


@KILLS
def test_what_killed_processes_left_behind_is_swept_and_nothing_else(tmp_path):
    left_behind(tmp_path)
    foreign = [".mine.tmp", ".file.0123abcd-77-xyz.tmp", "notes.tmp"]
    for name in foreign:
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "mine") as temporary:
        temporary.write_text("in progress")
        assert len(os.listdir(tmp_path)) == 6
        sweep(tmp_path.iterdir())
        assert sorted(os.listdir(tmp_path)) == sorted([*foreign, temporary.name])
    sweep(tmp_path.iterdir(), locked=True)  # nobody else writes there, so what another machine left goes too
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "mine", "notes.tmp"]


# --- Windows, as far as another system can play it ---


def open_elsewhere(monkeypatch, times):
    """Let the first renamings fail, as they do while another program has the file open."""
    replace, left = os.replace, iter(range(times))

    def refused(*paths):
        if next(left, None) is not None:
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(*paths)

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(time, "sleep", lambda _: None)


def test_on_windows_a_file_is_replaced_as_soon_as_nobody_has_it_open(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    open_elsewhere(monkeypatch, 3)
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_on_windows_a_file_that_stays_open_is_never_overwritten_in_part(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    open_elsewhere(monkeypatch, 99)
    with pytest.raises(CaptionlessError, match="Access is denied"), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_on_windows_a_folder_takes_the_place_of_an_empty_one(tmp_path, monkeypatch):
    replace = os.replace

    def only_what_is_free(source, target):
        if os.path.exists(target):
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "replace", only_what_is_free)
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").touch()
    assert os.listdir(tmp_path / "out") == ["a"]


def test_a_disk_that_is_full_during_a_copy_costs_no_file(tmp_path, monkeypatch):
    def half(source, target):
        if ".before" in f"{source}{target}":
            return whole(source, target)
        with open(target, "w") as file:
            file.write("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    whole = shutil.copyfile
    (tmp_path / "a").write_text("old")
    refuse(monkeypatch, os, "replace")
    refuse(monkeypatch, os, "link")
    monkeypatch.setattr(shutil, "copyfile", half)
    for name in ("a", "b"):
        with pytest.raises(CaptionlessError, match="No space left"), atomic_write(tmp_path / name) as temporary:
            temporary.write_text("new")
    with pytest.raises(CaptionlessError, match="No space left"):
        write_new((tmp_path / f"{i}" for i in count(1)), lambda temporary: temporary.write_text("new"))
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_is_copied_is_flushed(tmp_path, monkeypatch):
    flushed = []
    refuse(monkeypatch, os, "replace")
    monkeypatch.setattr(files, "flush", flushed.append)
    with pytest.warns(UserWarning, match="refuses renaming"), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert tmp_path / "a" in flushed


def test_a_folder_with_content_is_never_copied_over(tmp_path, monkeypatch):
    refuse(monkeypatch, os, "replace")
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(CaptionlessError, match="cannot write"), atomic_folder(tmp_path) as temporary:
        (temporary / "a").touch()
    assert os.listdir(tmp_path) == ["mine"]
