"""The choice of the number of CPU threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import encoder_factory
from captionless import train
from captionless.device import threads_restored
from captionless.training import rehearsal, run
from captionless.training.rehearsal import with_fastest_threads
from training_cases import save_photos

pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    for module in ("device", "training.run", "training.rehearsal", "training.plan"):
        monkeypatch.setattr(f"captionless.{module}.usable_cpus", lambda: 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("rates", "kept"),
    [
        ({8: 8.0, 4: 7.0}, 8),
        ({8: 8.0, 4: 9.0, 2: 6.0}, 4),
        ({8: 8.0, 4: 8.0, 2: 8.0, 1: 8.0}, 1),  # fewer threads leave more to others
    ],
)
def test_the_fewest_threads_are_kept_until_fewer_are_slower(rates: dict[int, float], kept: int) -> None:
    assert with_fastest_threads(lambda _: rates[torch.get_num_threads()]) == rates[kept]
    assert torch.get_num_threads() == kept


def test_threads_may_be_chosen_only_where_nobody_has() -> None:
    with threads_restored() as may_choose:
        assert may_choose
        torch.set_num_threads(2)
    assert torch.get_num_threads() == 8
    with threads_restored(8) as may_choose:
        assert not may_choose
    torch.set_num_threads(2)
    with threads_restored() as may_choose:
        assert not may_choose


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a rehearsal find four threads fastest, and note the threads of each training."""
    noted: list[int] = []

    def learn(*arguments: Any) -> None:
        noted.append(torch.get_num_threads())
        real(*arguments)

    real = run._learn
    monkeypatch.setattr(rehearsal, "_images_per_second", lambda *_: 90.0 - abs(torch.get_num_threads() - 4))
    monkeypatch.setattr(run, "_learn", learn)
    return noted


def test_a_training_takes_the_threads_of_its_rehearsal_also_when_it_is_resumed(tmp_path: Path, used: list[int]) -> None:
    photos, out = save_photos(tmp_path / "photos"), tmp_path / "model"
    encoder = str(encoder_factory.small_pair(tmp_path / "encoder"))
    settings: dict[str, Any] = {"size": 8, "width": 16, "batch": 4, "precision": "float32", "sample_grids": 0}
    train(photos, out, encoder=encoder, minutes=1e-4, progress=False, **settings)
    assert torch.get_num_threads() == 8
    train(photos, out, resume=True, minutes=0.02, progress=False)
    train(photos, out, resume=True, minutes=0.04, threads=2, progress=False)
    assert used == [4, 4, 2]
