"""Several processes train the same as one, and may take over from another number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from captionless.config.training import TrainConfig
from captionless.errors import CaptionlessError
from captionless.training.processes import Processes
from captionless.training.step import check_parts

SCRIPT = Path(__file__).parent / "several_processes.py"


def train(processes: int, folder: Path, images: int) -> list[float]:
    """The smoothed losses of a training by so many processes."""
    folder.mkdir(exist_ok=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    paths = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [*launch, str(SCRIPT), str(folder), str(images)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    losses: list[float] = json.loads(found.stdout.splitlines()[-1])
    return losses


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
