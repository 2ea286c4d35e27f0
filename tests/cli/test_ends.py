"""How commands end: signals, streams that fail, and bugs."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captionless.encoders import embeddings
from captionless.encoders.cache import VectorCache
from captionless.encoders.dual_encoder import load_encoder
from captionless.signals import TERMINATION
from platforms import SIGNALS
from training_cases import save_photos

Run = Callable[..., int]
TRAINING = ["--classes", "--size", "8", "--width", "16", "--batch", "4", "--precision", "float32"]


def bug(*_: Any, **__: Any) -> None:
    raise ZeroDivisionError("nobody\nthought of it")


def test_a_bug_is_one_line_that_names_the_file_of_its_traceback(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("captionless.checkpoints.config.model_folder", bug)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run("info", "bundled") == 70
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("captionless: this is a bug in captionless (ZeroDivisionError: nobody thought of it).")
    found = re.search(r"file (\S+\.txt),", line)
    assert found
    assert "in bug\n" in Path(found[1]).read_text()
    assert "captionless info bundled" in Path(found[1]).read_text()


@pytest.mark.parametrize(
    ("place", "count"),
    [("decode.to_rgb", 1), pytest.param("images._read_file", 40, marks=pytest.mark.slow, id="in a worker process")],
)
def test_a_bug_in_decoding_is_no_damaged_image(
    place: str,
    count: int,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def bug(*_: Any) -> None:  # here, so that it is sent to the workers
        raise KeyError("nobody thought of it")

    (tmp_path / "photos").mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.setattr(f"captionless.data.{place}", bug)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    assert run("info", str(tmp_path / "photos")) == 70
    assert "this is a bug in captionless (KeyError: 'nobody thought of it')" in capsys.readouterr().err
    assert len([*tmp_path.glob("captionless-crash-*.txt")]) == 1


def test_a_bug_is_one_line_where_no_file_can_be_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("captionless.checkpoints.config.model_folder", bug)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert run("info", "bundled") == 70
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "ZeroDivisionError" in line


def test_a_file_that_the_disk_refuses_is_one_line_wherever_it_is_read(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", "model/config.json")

    monkeypatch.setattr("captionless.checkpoints.config.model_folder", refused)
    assert run("info", "bundled") == 2
    line = "captionless: cannot use model/config.json: Input/output error. Check the disk and your permissions.\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        BlockingIOError(errno.EAGAIN, "Try again"),
        RuntimeError("can't start new thread"),
    ],
)
def test_a_limit_of_the_system_is_one_line(
    run: Run, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("captionless.checkpoints.config.model_folder", refused)
    assert run("info", "bundled") == 2
    line = capsys.readouterr().err
    assert line.startswith("captionless: the system grants no more files, threads or processes")
    assert line.count("\n") == 1


def start(words: list[str], tmp_path: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "captionless", *words],
        cwd=tmp_path,
        env=os.environ | {"CAPTIONLESS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        **options,
    )


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@SIGNALS
@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_training_is_saved_when_its_terminal_is_closed(tmp_path: Path, number: str) -> None:
    photos = save_photos(tmp_path / "photos")
    words = ["train", str(photos), "--out", "model", *TRAINING, "--images", "1000000000"]
    log = tmp_path / "log"
    with log.open("w") as file, start([*words, "--checkpoint-minutes", "1e-9"], tmp_path, stderr=file) as process:
        wait_for((tmp_path / "model" / "config.json").exists)
        for _ in range(2):  # they come in pairs
            process.send_signal(signal.Signals[number])
        assert process.wait(60) == 130
    assert re.search(r"Stopped after [\d,]+ images\. Run the same command with --resume", log.read_text())


@SIGNALS
def test_vectors_that_were_computed_before_a_signal_are_kept(
    run: Run,
    tmp_path: Path,
    encoder: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encode = embeddings._Embedding.encode

    def stopped(self: embeddings._Embedding, *arguments: Any) -> None:
        if self.computed:
            signal.raise_signal(signal.SIGTERM)
        encode(self, *arguments)

    monkeypatch.setattr(embeddings._Embedding, "encode", stopped)
    monkeypatch.setitem(embeddings.embed.__kwdefaults__, "batch", 2)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in TERMINATION}  # as in a process of its own
    try:
        assert run("embed", str(photos), "--encoder", str(encoder)) == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = capsys.readouterr().err
    assert said.endswith("Stopped. Run the same command again to go on: the vectors computed are kept.\n")
    assert len(VectorCache(tmp_path / "cache", load_encoder(str(encoder)).digest)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to a device of Linux that is always full")
def test_a_full_disk_under_the_log_ends_no_training(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = save_photos(tmp_path / "photos")
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with Path("/dev/full").open("w") as full:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(full.fileno(), number)
                stream = open(number, "w", closefd=False)  # noqa: SIM115
                monkeypatch.setattr(sys, name, stream)
                monkeypatch.setattr(sys, f"__{name}__", stream)  # as Python itself opened it
        assert run("train", str(photos), "--out", "model", *TRAINING, "--images", "8") == 0
        sys.stdout.flush()  # as Python does at the end of a process, whose exit code a failure changes
        sys.stderr.flush()
    finally:
        for number, one in zip((1, 2), kept, strict=True):
            os.dup2(one, number)
            os.close(one)
    assert (tmp_path / "model" / "config.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to a device of Linux that is always full")
@pytest.mark.parametrize("words", [["--version"], pytest.param(["--help"], marks=pytest.mark.slow)])
def test_results_that_cannot_be_printed_are_told(words: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full, start(words, tmp_path, stdout=full, stderr=subprocess.PIPE) as process:
        _, said = process.communicate()
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "the standard output cannot be written to: No space left on device" in said


@pytest.mark.slow
def test_without_standard_streams_nothing_is_written_into_files(tmp_path: Path, photos: Path, encoder: Path) -> None:
    words = f"{sys.executable} -m captionless embed {photos} --encoder {encoder} --csv clip.csv"
    environment = os.environ | {"CAPTIONLESS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(f"{words} <&- >&- 2>&-", shell=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0
    assert len((tmp_path / "clip.csv").read_text().splitlines()) == 6
