"""Several processes train the same as one, and may take over from another number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

import encoder_factory
from captionless.checkpoints.model import STATE, load_model
from captionless.config.training import TrainConfig
from captionless.errors import CaptionlessError
from captionless.training.processes import Processes, remark_on_launcher
from captionless.training.step import check_parts
from training_cases import save_photos

SCRIPT = Path(__file__).parent / "several_processes.py"
SLOW = Path(__file__).parent / "slow_processes.py"
TIMEOUT, DELAY = 5, 8
"""Seconds that the default group of processes waits, and that reading and each save take; in earnest 600 and hours."""


def train(processes: int, folder: Path, images: int) -> list[float]:
    """The smoothed losses of a training by so many processes."""
    folder.mkdir(exist_ok=True)
    found = launch(processes, SCRIPT, folder, images)
    losses: list[float] = json.loads(found.stdout.splitlines()[-1])
    return losses


def launch(processes: int, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in so many processes, without errors."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    paths = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [*launcher, *map(str, command)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return found


@pytest.mark.slow
def test_one_two_and_four_processes_have_the_same_losses(tmp_path: Path) -> None:
    one, two, four = (train(number, tmp_path / str(number), 160) for number in (1, 2, 4))
    assert len(one) == 20
    assert two == pytest.approx(one, abs=1e-5)
    assert four == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_a_training_is_resumed_on_another_number_of_processes(tmp_path: Path) -> None:
    first, again = (train(2, tmp_path / name, 80) for name in ("parts", "again"))
    assert again == first
    rest, alone = train(1, tmp_path / "parts", 160), train(2, tmp_path / "again", 160)
    assert len(rest) == 10
    assert alone == pytest.approx(rest, abs=1e-5)


@pytest.mark.slow
def test_reading_and_saving_may_take_longer_than_the_processes_wait_for_each_other(tmp_path: Path) -> None:
    photos, encoder = save_photos(tmp_path / "photos"), encoder_factory.small_pair(tmp_path / "encoder")
    launch(2, SLOW, photos, tmp_path / "model", encoder, TIMEOUT, DELAY)
    assert load_model(tmp_path / "model").config.training.images_seen == 8
    assert (tmp_path / "model" / STATE).is_file()


@pytest.mark.slow
def test_the_command_ends_well_in_two_processes_and_is_told_once(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos")
    options = ["--classes", "--size", 8, "--width", 16, "--batch", 4, "--images", 16]
    found = launch(2, "-m", "captionless", "train", photos, "--out", tmp_path / "model", *options)
    assert found.stderr.count("Done. Try: captionless generate") == 1
    assert load_model(tmp_path / "model").config.training.images_seen == 16


def test_an_exchange_with_a_process_that_has_ended_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise RuntimeError("Connection closed by peer")

    processes = Processes()
    processes.number = 2
    monkeypatch.setattr(distributed, "all_reduce", closed)
    for exchange in (processes.wait, lambda: processes.add([torch.zeros(1)])):
        with pytest.raises(CaptionlessError, match=r"another process of this training has ended.*`resume=True`"):
            exchange()


@pytest.mark.parametrize(
    ("given", "remarks"),
    [
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, 1),
        ({"ACCELERATE_USE_CPU": "True"}, 0),
        ({"ACCELERATE_USE_CPU": "False", "MASTER_ADDR": "127.0.0.1"}, 0),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "1"}, 0),
        ({}, 0),
    ],
)
def test_one_process_where_several_were_asked_for_is_remarked_on(
    given: dict[str, str], remarks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCELERATE_USE_CPU", "MASTER_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    remark_on_launcher(Processes(), said.append)
    assert len(said) == remarks


def test_a_process_alone_has_every_item_and_exchanges_nothing() -> None:
    alone = Processes()
    assert (alone.index, alone.number, alone.part(7), alone.least(3.5)) == (0, 1, range(7), 3.5)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_the_parts_of_all_processes_are_the_whole(number: int) -> None:
    parts: list[int] = []
    for index in range(number):
        one = Processes()
        one.index, one.number = index, number
        parts += one.part(8)
    assert parts == list(range(8))


def test_a_batch_that_cannot_be_divided_is_refused_with_the_remedy() -> None:
    config = TrainConfig(batch=8, accumulate=2)
    check_parts(config, 4)
    with pytest.raises(CaptionlessError, match=r"`accumulate=2` on 5 processes\. Choose a larger `batch`"):
        check_parts(config, 5)
