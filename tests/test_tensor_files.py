"""The contract of captionless.tensor_files: no damage to a tensor file passes in silence."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import tiny
from bit_flips import flip, flipped
from captionless.checkpoints.config import BUNDLED, load_config, model_folder, save_config
from captionless.checkpoints.model import BANK, WEIGHTS, load_model
from captionless.encoders import choice, load_encoder
from captionless.encoders.hub import BUNDLED_FOLDER
from captionless.encoders.text_side import BertText
from captionless.errors import CaptionlessError
from captionless.tensor_files import check_tensors, content_digest, read_about, read_tensors, save_tensors
from platforms import DEVICES

TENSORS = {
    "half": torch.ones(3, dtype=torch.float16),
    "brain": torch.ones(2, 2, dtype=torch.bfloat16),
    "number": torch.tensor(0.5),
    "bytes": torch.arange(5, dtype=torch.int8),
    "flags": torch.tensor([True, False]),
    "none": torch.empty(0, 4),
}


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(CaptionlessError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# --- files ---


def test_tensors_and_what_is_recorded_of_them_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {"model": "m", "note": "é"})
    found = read_tensors(path, "m")
    assert found.keys() == TENSORS.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )
    assert read_about(path).items() >= {"model": "m", "note": "é"}.items()


def test_the_same_tensors_make_the_same_file(tmp_path: Path) -> None:
    for number in range(5):
        save_tensors(tmp_path / f"{number}", TENSORS, {"model": "m", "note": 1, "other": 2})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_every_flipped_bit_of_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(3), "b": torch.arange(3)}, {"model": "m"})
    for bit in range(8 * path.stat().st_size):
        flip(path, bit)
        with pytest.raises(CaptionlessError):
            read_tensors(path, "m")
        flip(path, bit)
    read_tensors(path, "m")


@pytest.mark.parametrize("name", [b"captionless", b"digest"])
def test_a_flipped_bit_in_a_name_makes_no_file_without_a_digest(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(3)})
    flip(path, 8 * (path.read_bytes().index(name) + len(name) - 1))
    assert "its digest is missing" in error_of(lambda: read_tensors(path))


def test_the_file_of_another_model_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", TENSORS, {"model": "m"})
    assert f"{tmp_path / 'x'} belongs to another model" in error_of(lambda: read_tensors(tmp_path / "x", "n"))


def test_a_file_without_a_digest_is_read_only_for_models_without_an_id(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x", metadata={"format": "pt"})
    assert read_tensors(tmp_path / "x").keys() == TENSORS.keys()
    assert read_about(tmp_path / "x") == {"format": "pt"}
    assert "its digest is missing" in error_of(lambda: read_tensors(tmp_path / "x", "m"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
def test_values_that_are_not_finite_are_neither_read_nor_written(
    kind: torch.dtype, value: float, tmp_path: Path
) -> None:
    tensor = torch.tensor([1.0, value]).to(kind)
    save_file({"w": tensor}, tmp_path / "x")
    assert f"{tmp_path / 'x'} is damaged: its tensor w holds values that are not finite" in error_of(
        lambda: read_tensors(tmp_path / "x")
    )
    assert "was not written" in error_of(lambda: save_tensors(tmp_path / "y", {"w": tensor}))
    assert not (tmp_path / "y").exists()


def test_values_that_are_not_finite_are_refused_although_they_have_their_digest(tmp_path: Path) -> None:
    tensors = {"w": torch.tensor([math.nan])}
    header = json.dumps({"model": "m", "digest": content_digest(tensors, {"model": "m"})})
    save_file(tensors, tmp_path / "x", metadata={"captionless": header})
    assert "its tensor w holds values that are not finite" in error_of(lambda: read_tensors(tmp_path / "x", "m"))


def test_a_pointer_of_git_lfs_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    assert "Git LFS" in error_of(lambda: read_tensors(tmp_path / "x"))
    assert "`git lfs pull`" in error_of(lambda: check_tensors(tmp_path / "x"))


@DEVICES
def test_no_device_or_pipe_is_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        assert "is missing" in error_of(lambda name=name: read_tensors(tmp_path / name))  # type: ignore[misc]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux, which lists what is mapped")
@pytest.mark.parametrize("windows", [False, True])
def test_on_windows_no_file_stays_mapped_and_so_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    monkeypatch.setattr("captionless.tensor_files.WINDOWS", windows)
    save_tensors(tmp_path / "x", {"w": torch.arange(100_000.0)})
    tensors = read_tensors(tmp_path / "x")
    assert (str(tmp_path / "x") in Path("/proc/self/maps").read_text("utf-8")) is not windows
    assert tensors["w"][-1] == 99_999


# --- models ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with an id in every file."""
    model = tiny.model()
    config = tiny.replace(model.config, id="m")
    save_tensors(tmp_path / WEIGHTS, model.denoiser.state_dict(), {"model": "m"})
    save_tensors(tmp_path / BANK, {"vectors": model.bank}, {"model": "m"})
    save_config(tmp_path, config)
    return tmp_path


@pytest.mark.parametrize("name", [WEIGHTS, BANK])
def test_files_of_another_model_of_the_same_shape_are_refused(name: str, folder: Path) -> None:
    assert load_model(folder).config.id == "m"
    save_tensors(folder / name, read_tensors(folder / name), {"model": "n"})
    assert f"{folder / name} belongs to another model" in error_of(lambda: load_model(folder))


def test_weights_that_overflow_when_they_are_loaded_are_refused(folder: Path) -> None:
    weights = {name: tensor.double() * 1e300 for name, tensor in read_tensors(folder / WEIGHTS).items()}
    save_tensors(folder / WEIGHTS, weights, {"model": "m"})
    assert f"{folder / WEIGHTS} is damaged" in error_of(lambda: load_model(folder))


@pytest.mark.parametrize("factor", [0.0, 0.9, 1e30])
def test_a_bank_of_anything_but_unit_vectors_is_refused(folder: Path, factor: float) -> None:
    vectors = read_tensors(folder / BANK)["vectors"]
    vectors[-1] *= factor
    save_tensors(folder / BANK, {"vectors": vectors}, {"model": "m"})
    assert f"{folder / BANK} holds vectors that are no unit vectors" in error_of(lambda: load_model(folder))


def test_files_of_a_model_without_an_id_load_as_before(folder: Path) -> None:
    save_config(folder, tiny.replace(load_config(folder), id=""))
    for name in (WEIGHTS, BANK):
        save_file(read_tensors(folder / name), folder / name)
    load_model(folder)


def test_the_shipped_files_have_ids_and_digests() -> None:
    large, base = load_model(BUNDLED), load_model(model_folder(BUNDLED) / "base")
    assert large.config.id
    assert large.config.base_id == base.config.id != large.config.id


def _bundled(folder: Path) -> None:
    load_model(folder / "flowers")


def _encoder(folder: Path) -> None:
    BertText(folder / "encoder")


def _domain(folder: Path) -> None:
    encoder = load_encoder(BUNDLED)
    object.__setattr__(encoder, "folder", folder / "encoder")
    choice.in_domain_score(encoder, [Image.new("RGB", (32, 32))])


SHIPPED: dict[str, Callable[[Path], None]] = {
    "flowers/model.safetensors": _bundled,
    "flowers/base/model.safetensors": _bundled,
    "flowers/base/bank.safetensors": _bundled,
    "encoder/model.safetensors": _encoder,
    "encoder/domain.safetensors": _domain,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_sixty_bit_flips_in_each_shipped_file_are_all_noticed(name: str, tmp_path: Path) -> None:
    shutil.copytree(BUNDLED_FOLDER.parent, tmp_path / "bundled")
    path, load = tmp_path / "bundled" / name, SHIPPED[name]
    noticed = [error_of(lambda: load(tmp_path / "bundled")) for _ in flipped(path)]
    assert len(noticed) == 60
    load(tmp_path / "bundled")


def test_a_flipped_bit_in_the_shipped_weights_ends_a_command_with_one_line(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(model_folder(BUNDLED), tmp_path / "flowers")
    path = tmp_path / "flowers" / "base" / WEIGHTS
    flip(path, 8 * path.stat().st_size - 77)
    assert run("info", str(tmp_path / "flowers")) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"captionless: {path} is damaged (its content does not have its digest). Restore it from a copy, or make it "
        "again."
    ]
