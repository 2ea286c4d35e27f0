"""`--threads`, through the real entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

Run = Callable[..., int]
COMMANDS = {
    "train": ["missing", "--out", "out"],
    "generate": ["a rose", "--model", "missing"],
    "evaluate": ["missing", "--data", "missing"],
    "embed": ["missing"],
    "encoder": ["missing", "--out", "out"],
    "autoencoder": ["missing", "--out", "out"],
}


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_computes_sets_the_threads(command: str, run: Run) -> None:
    assert run(command, *COMMANDS[command], "--threads", "3") == 2  # there is no such folder
    assert torch.get_num_threads() == 3


def test_by_default_the_variable_of_openmp_is_respected(run: Run) -> None:
    torch.set_num_threads(2)
    assert run("embed", "missing") == 2
    assert torch.get_num_threads() == 2


def test_without_the_variable_the_usable_cpus_are_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("captionless.device.usable_cpus", lambda: 3)
    assert run("embed", "missing") == 2
    assert torch.get_num_threads() == 3


def test_no_threads_are_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("embed", "missing", "--threads", "0") == 2
    assert (
        "--threads must be an integer of at least 1 and at most 1,024, not 0. Try --threads 1."
        in capsys.readouterr().err
    )
