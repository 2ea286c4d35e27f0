"""No crash of the machine, at any moment of a checkpoint, costs a loadable model or an exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import crash_states
import encoder_factory
from captionless import files
from captionless.checkpoints.config import CONFIG
from captionless.checkpoints.model import load_model
from captionless.errors import CaptionlessError
from captionless.training.checkpointer import Checkpointer
from captionless.training.run import train
from crash_states import Record, Tree, recorded
from training_cases import same_state, save_photos

# A checkpoint after every step, with everything that a checkpoint may contain.
SETTINGS: dict[str, Any] = {
    "size": 8,
    "width": 16,
    "batch": 4,
    "images": 16,
    "precision": "float32",
    "sample_grids": 0,
    "dropout": 0.1,
    "checkpoint_minutes": 1e-9,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, module_cache: None) -> Path:
    folder = save_photos(tmp_path_factory.mktemp("photos") / "photos")
    (folder / "CREDITS.csv").write_text("file,photographer\ndaisy/0.png,Ada\n")
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(encoder_factory.small_pair(tmp_path_factory.mktemp("encoder")))


def record_training(root: Path, photos: Path, encoder: str) -> Record:
    """Train into the folder ``model`` of ``root``, and record it; a mark is set after each checkpoint."""
    with recorded(root) as record, pytest.MonkeyPatch.context() as patch:
        save = Checkpointer.on_end

        def marked(self: Checkpointer, state: Any) -> None:
            save(self, state)
            record.marks.append(len(record.operations))

        patch.setattr(Checkpointer, "on_end", marked)
        train(photos, root / "model", encoder=encoder, **SETTINGS)
    return record


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, photos: Path, encoder: str) -> Record:
    torch.manual_seed(0)
    return record_training(tmp_path_factory.mktemp("disk"), photos, encoder)


def different(record: Record) -> tuple[int, list[tuple[int, Tree]]]:
    """Return the number of crash states, and those of them that differ."""
    found: dict[object, tuple[int, Tree]] = {}
    count = 0
    for done, tree in crash_states.crash_states(record):
        count += 1
        found[crash_states.identity(tree)] = done, tree  # the latest, as more is promised after a checkpoint
    return count, list(found.values())


def check(done: int, tree: Tree, record: Record, photos: Path, encoder: str, folder: Path) -> None:
    """Require a loadable model once there was one, and a resume that ends as if nothing had happened."""
    out = crash_states.write(tree, folder) / "model"
    if done >= record.marks[0] or (out / CONFIG).exists():
        load_model(out)
    train(photos, out, encoder=encoder, resume=True, **SETTINGS)
    assert same_state(record.root / "model", out)
    weights = [load_model(one).denoiser.state_dict() for one in (record.root / "model", out)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_some_states_after_a_crash(record: Record, photos: Path, encoder: str, tmp_path: Path) -> None:
    _, states = different(record)
    assert len(set(record.marks)) == 4
    for number, (done, tree) in enumerate([states[len(states) // 2], states[-1]]):
        check(done, tree, record, photos, encoder, tmp_path / str(number))


@pytest.mark.slow
def test_all_states_after_a_crash(
    record: Record, photos: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count, states = different(record)
    for number, (done, tree) in enumerate(states):
        check(done, tree, record, photos, encoder, tmp_path / str(number))
    with capsys.disabled():
        print(f"\n{len(record.operations)} operations, {count} states after a crash, {len(states)} of them different")
    assert count > 300
    assert len(states) > 15


def test_without_flushing_a_crash_would_cost_the_model(
    photos: Path, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(files, "flush", lambda path: None)
    record = record_training(tmp_path / "disk", photos, encoder)
    lost = 0
    for number, (_, tree) in enumerate(crash_states.crash_states(record, len(record.operations))):
        if number >= 40:
            break
        try:
            load_model(crash_states.write(tree, tmp_path / str(number)) / "model")
        except CaptionlessError:
            lost += 1
    assert lost > 5
