import os
import sys
import warnings

import pytest

from captionless.data.decoder_output import MAX_NOTES, captured


def test_warnings_and_what_c_code_prints_become_notes(capfd):
    with captured() as notes:
        warnings.warn("a warning", stacklevel=1)
        os.write(2, b"tempfile.tif: printed\n")
    assert notes == ["a warning", "printed"]
    assert capfd.readouterr().err == ""


def test_what_comes_afterwards_reaches_the_terminal_again(capfd):
    with captured():
        os.write(2, b"inside\n")
    os.write(2, b"outside\n")
    print("python too", file=sys.stderr)
    assert capfd.readouterr().err == "outside\npython too\n"


def test_an_error_passes_and_the_notes_are_there(capfd):
    with pytest.raises(ValueError, match="damaged"), captured() as notes:  # noqa: PT012
        os.write(2, b"shout\n")
        raise ValueError("damaged")
    assert notes == ["shout"]
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_hundreds_of_complaints_are_shortened_and_repetitions_told_once():
    with captured() as notes:
        for i in range(300):
            warnings.warn(f"line {i // 2}", stacklevel=1)
    assert notes == [*(f"line {i}" for i in range(MAX_NOTES)), f"and {150 - MAX_NOTES} more messages"]


def test_without_stderr_only_python_is_listened_to(capfd):
    with captured(stderr=False) as notes:
        os.write(2, b"through\n")
    assert notes == []
    assert capfd.readouterr().err == "through\n"


def test_warning_filters_that_make_errors_do_not_reach_inside():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with captured() as notes:
            warnings.warn("only a note", stacklevel=1)
    assert notes == ["only a note"]


def test_without_a_temporary_folder_images_are_read_all_the_same(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: (tmp_path / "missing" / "file").open("wb"))
    with captured() as notes:
        warnings.warn("a warning", stacklevel=1)
        os.write(2, b"printed\n")
    assert notes == ["a warning"]
    assert capfd.readouterr().err == "printed\n"
