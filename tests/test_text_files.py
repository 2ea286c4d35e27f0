"""Whatever a file of text claims to be, it is read in bounded memory and time, or refused."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from captionless.text_files import MAX_LINE, MAX_TEXT, parse_json, read_json, read_lines, read_text, write_text


def test_a_text_is_read_without_its_byte_order_mark_and_lines_keep_their_endings(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffä\r\nb\u2028c\n".encode())
    assert read_text(path) == read_text(io.BytesIO(path.read_bytes())) == "ä\r\nb\u2028c\n"
    assert [*read_lines(path)] == ["ä\r\n", "b\u2028c\n"]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "ä\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "a rose" * 10_000 + "\udcff")
    assert path.read_bytes() == "ä\n".encode()
    write_text(path, "\udcff\n", "replace")
    assert path.read_bytes() == b"?\n"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("read", [read_text, read_json, lambda path: [*read_lines(path)]])
def test_a_file_that_is_larger_than_memory_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(OSError, match=f"more than {MAX_TEXT:,} bytes|longer than {MAX_LINE:,} characters"):
        read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_lines_that_never_end_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("captionless.text_files.MAX_TEXT", 100)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("rose\n" * 50)
    assert len([*read_lines(tmp_path / "file")]) == 50
    if not os.fork():
        try:
            with (tmp_path / "fifo").open("w") as file:
                file.writelines(["rose\n"] * 50)
        finally:
            os._exit(0)
    with pytest.raises(OSError, match="more than 100 bytes"):
        list(read_lines(tmp_path / "fifo"))


@pytest.mark.parametrize("text", ["[" * 100_000, b"\xff", "", "{]"])
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
