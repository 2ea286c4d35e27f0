"""The contract of captionless.training.embedding_bank: own image vectors, and those of the model started from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from captionless.checkpoints.config import load_config
from captionless.checkpoints.model import BANK, load_model
from captionless.tensor_files import save_tensors
from captionless.training.dataset import Dataset, Examples
from captionless.training.embedding_bank import embedding_bank
from captionless.training.start import Start
from tiny import FakeEncoder, unit_vectors


def dataset(vectors: Tensor) -> Dataset:
    n = len(vectors)
    train = Examples(torch.zeros(n, 3, 8, 8), vectors, tuple(f"{i}.png" for i in range(n)), ("",) * n)
    return Dataset(train, train, FakeEncoder())  # type: ignore[arg-type]


@pytest.fixture
def ancestor(tmp_path: Path) -> Path:
    folder = tiny.saved(tiny.model(), tmp_path / "ancestor")
    save_tensors(folder / BANK, {"vectors": unit_vectors(12, seed=3), "inherited": unit_vectors(5, seed=4)})
    return folder


def started(folder: Path) -> Start:
    return Start(load_config(folder), str(folder))


def test_a_run_from_scratch_keeps_its_own_vectors_alone(tmp_path: Path) -> None:
    bank = embedding_bank(dataset(unit_vectors(7)), Start(), tmp_path, 0)
    assert list(bank) == ["vectors"]
    assert torch.equal(bank["vectors"], unit_vectors(7).half())


def test_a_model_inherits_the_bank_of_its_ancestors(ancestor: Path, tmp_path: Path) -> None:
    bank = embedding_bank(dataset(unit_vectors(7)), started(ancestor), tmp_path, 0)
    expected = torch.cat([unit_vectors(12, seed=3), unit_vectors(5, seed=4)])
    assert torch.equal(bank["vectors"], unit_vectors(7).half())
    torch.testing.assert_close(bank["inherited"].float(), expected, atol=1e-3, rtol=0)


def test_images_that_both_have_are_not_inherited(ancestor: Path, tmp_path: Path) -> None:
    both = unit_vectors(12, seed=3)[:4]
    bank = embedding_bank(dataset(both), started(ancestor), tmp_path, 0)
    assert len(bank["inherited"]) == 12 + 5 - 4


def test_own_vectors_come_first_where_there_is_little_room(ancestor: Path, tmp_path: Path) -> None:
    bank = embedding_bank(dataset(unit_vectors(7)), started(ancestor), tmp_path, 0, most=9)
    assert {name: len(vectors) for name, vectors in bank.items()} == {"vectors": 7, "inherited": 2}


def test_a_part_of_the_images_is_kept_with_their_rows(tmp_path: Path) -> None:
    bank = embedding_bank(dataset(unit_vectors(7)), Start(), tmp_path, 0, most=4)
    assert bank["vectors"].shape == (4, tiny.WIDTH)
    assert torch.equal(bank["vectors"], unit_vectors(7)[bank["rows"]].half())


def test_a_resumed_run_keeps_what_it_inherited_though_the_ancestor_is_gone(tmp_path: Path) -> None:
    save_tensors(tmp_path / BANK, {"vectors": unit_vectors(7), "inherited": unit_vectors(3, seed=9)})
    bank = embedding_bank(dataset(unit_vectors(7)), Start(tiny.model().config, "gone", resumed=True), tmp_path, 0)
    torch.testing.assert_close(bank["inherited"].float(), unit_vectors(3, seed=9), atol=1e-3, rtol=0)


def test_a_loaded_model_bridges_to_both_banks(ancestor: Path) -> None:
    model = load_model(ancestor)
    assert (len(model.bank), len(model.inherited)) == (12, 5)
    torch.testing.assert_close(model.bridge_data.bank, torch.cat([model.bank, model.inherited]))
