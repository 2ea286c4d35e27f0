"""Where a file or folder is expected, a device, a FIFO or a socket is named as such, and left as it is."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="these kinds of files exist on POSIX only")

KINDS = {"zero": "a device", "fifo": "a FIFO", "socket": "a socket"}
FOLDERS = [
    "train IT --out new",
    "train photos --classes --out IT",
    "train photos --out new --from IT",
    "train photos --out new --enlarge IT",
    "train photos --out new --encoder IT",
    "generate rose --model IT",
    "generate rose --encoder IT",
    "generate rose --out IT",
    "evaluate IT --data photos --out new",
    "evaluate --data photos --out IT",
    "embed IT",
    "embed photos --encoder IT",
    "encoder IT --out new",
    "info IT",
    "encoder photos --out IT",
    "autoencoder IT --out new",
    "autoencoder photos --out IT",
    "export IT --to hub --out new",
    "serve IT",
    "serve bundled --training-images IT",
]
FILES = [
    "train photos --labels IT --out new",
    "train photos --encoder bundled --vectors IT --out new --images 8 --size 16 --width 16",
    "generate --prompts IT",
    "generate rose --like IT",
    "generate rose --init IT",
    "evaluate --data photos --prompts IT --out new",
    "export bundled --to onnx --out IT",
]


@pytest.fixture
def nodes(tmp_path: Path, photos: Path) -> dict[str, Path]:
    """A node of each kind, in a folder with photos."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
    (tmp_path / "zero").symlink_to("/dev/zero")
    return {name: tmp_path / name for name in KINDS}


def refused(run: Callable[..., int], words: str, node: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of a command that is given a node, and leaves it as it is; before it there may be remarks."""
    before = node.lstat()
    assert run(*(word.replace("IT", str(node)) for word in words.split())) == 2
    after = node.lstat()
    assert (stat.S_IFMT(after.st_mode), after.st_ino) == (stat.S_IFMT(before.st_mode), before.st_ino)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith(("captionless:", "Traceback"))] == lines[-1:]
    return lines[-1]


@pytest.mark.parametrize("words", FOLDERS)
def test_what_is_no_folder_is_named(
    run: Callable[..., int], nodes: dict[str, Path], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, kind in KINDS.items():
        line = refused(run, words, nodes[name], capsys)
        assert str(nodes[name]) in line
        assert kind in line


@pytest.mark.parametrize("words", FILES)
def test_what_is_no_file_is_one_line(
    run: Callable[..., int], nodes: dict[str, Path], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("zero", "socket"):  # a FIFO may have a writer, such as <(…) of a shell
        assert str(nodes[name]) in refused(run, words, nodes[name], capsys)


@pytest.mark.parametrize("name", KINDS)
def test_a_table_replaces_nothing_but_a_table(
    run: Callable[..., int], nodes: dict[str, Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert KINDS[name] in refused(run, "embed photos --csv IT", nodes[name], capsys)
