"""The contract of captionless.checkpoints.model: what a model is on disk."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

import tiny
from captionless import tensor_files
from captionless.checkpoints.config import save_config
from captionless.checkpoints.model import BANK, WEIGHTS, Model, load_model
from captionless.errors import CaptionlessError
from captionless.tensor_files import read_tensors, save_tensors


def write(folder: Path, model: Model, *, smaller: bool = False) -> Path:
    weights: dict[str, Tensor] = model.denoiser.state_dict()
    save_tensors(folder / WEIGHTS, {name: tensor.half() for name, tensor in weights.items()} if smaller else weights)
    if model.config.encoder:
        save_tensors(folder / BANK, {"vectors": model.bank})
    save_config(folder, model.config)
    return folder


@pytest.fixture
def folder(tmp_path: Path, model: Model) -> Path:
    return write(tmp_path / "runs" / "flowers", model)


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(CaptionlessError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


# --- round trips ---


def test_a_model_comes_back_as_it_was_saved(folder: Path, model: Model) -> None:
    loaded = load_model(folder)
    assert loaded.config == model.config
    assert torch.equal(loaded.bank, model.bank)
    for name, weight in model.denoiser.state_dict().items():
        assert torch.equal(loaded.denoiser.state_dict()[name], weight), name


def test_a_loaded_denoiser_is_ready_to_sample_and_not_to_train(folder: Path) -> None:
    denoiser = load_model(folder).denoiser
    assert not denoiser.training
    assert not any(weight.requires_grad for weight in denoiser.parameters())


def test_a_model_saved_in_float16_is_read_in_float32_and_answers_nearly_the_same(tmp_path: Path, model: Model) -> None:
    loaded = load_model(write(tmp_path, model, smaller=True))
    assert {weight.dtype for weight in loaded.denoiser.parameters()} == {torch.float32}
    inputs = tiny.random(2, 3, 8, 8), tiny.uniform(2), tiny.unit_vectors(2)
    torch.testing.assert_close(loaded.denoiser(*inputs), model.denoiser(*inputs), atol=0.01, rtol=0.01)


def test_float16_halves_the_file(tmp_path: Path, model: Model) -> None:
    whole, smaller = write(tmp_path / "a", model), write(tmp_path / "b", model, smaller=True)
    assert (smaller / WEIGHTS).stat().st_size < 0.6 * (whole / WEIGHTS).stat().st_size


def test_weights_in_another_memory_format_are_saved_the_same(tmp_path: Path, model: Model) -> None:
    first = write(tmp_path / "a", model) / WEIGHTS
    model.denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    second = write(tmp_path / "b", model) / WEIGHTS
    assert first.read_bytes() == second.read_bytes()


# --- models of classes ---


def test_a_model_of_classes_comes_back_without_encoder_and_bank(tmp_path: Path) -> None:
    model = tiny.class_model(("daisy", "rosé", "wild rose"))
    loaded = load_model(write(tmp_path, model))
    assert loaded.config == model.config
    assert (loaded.config.encoder, loaded.config.classes) == (None, ("daisy", "rosé", "wild rose"))
    assert loaded.config.condition_width == 3
    assert loaded.bank.shape == (0, 3)


def test_what_needs_an_encoder_is_answered_by_the_classes_there_are() -> None:
    model = tiny.class_model()
    assert "it has no encoder" in error_of(lambda: model.bridge_data)
    assert "The classes are: daisy, rose." in error_of(lambda: model.config.require_encoder("x"))
    assert tiny.model().config.require_encoder("x") == tiny.model().config.encoder


# --- files that are missing or damaged ---


@pytest.mark.parametrize("name", [WEIGHTS, BANK])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert f"{folder / name} is missing" in error_of(lambda: load_model(folder))


@pytest.mark.parametrize("name", [WEIGHTS, BANK])
@pytest.mark.parametrize("kept", [0, 4, 100, -1], ids=["nothing", "4 bytes", "100 bytes", "all but 1 byte"])
def test_a_truncated_file_is_named(name: str, kept: int, folder: Path) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{path} is damaged" in error_of(lambda: load_model(folder))


def test_a_file_of_another_format_is_never_unpickled(folder: Path) -> None:
    torch.save({"stem.weight": torch.ones(3)}, folder / WEIGHTS)
    assert f"{folder / WEIGHTS} is damaged" in error_of(lambda: load_model(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    save_tensors(folder / WEIGHTS, tiny.denoiser(width=32).state_dict())
    assert f"the weights in {folder / WEIGHTS} do not match" in error_of(lambda: load_model(folder))


@pytest.mark.parametrize("change", [{"extra": torch.ones(1)}, {"stem.weight": None}], ids=["too many", "too few"])
def test_weights_of_another_network_are_refused(change: dict[str, Tensor | None], folder: Path) -> None:
    weights = read_tensors(folder / WEIGHTS) | change
    save_tensors(folder / WEIGHTS, {name: tensor for name, tensor in weights.items() if tensor is not None})
    assert "do not match" in error_of(lambda: load_model(folder))


@pytest.mark.parametrize(
    "bank",
    [
        {},
        {"vector": torch.ones(2, 8)},
        {"vectors": torch.ones(8)},
        {"vectors": torch.ones(2, 9)},
        {"vectors": torch.ones(0, 8)},
    ],
    ids=["nothing", "another name", "one vector", "another width", "no vectors"],
)
def test_a_bank_that_does_not_fit_is_refused(bank: dict[str, Tensor], folder: Path) -> None:
    save_tensors(folder / BANK, bank)
    assert f"{folder / BANK} does not match" in error_of(lambda: load_model(folder))


# --- writing ---


def failing(error: Exception) -> Callable[..., None]:
    """A ``save_file`` that breaks off in the middle."""

    def save_file(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half of it")
        raise error

    return save_file


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (SafetensorError("Error while serializing: I/O error: No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_a_full_disk_leaves_the_old_weights_and_nothing_half_written(
    error: Exception, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(tensor_files, "save_file", failing(error))
    message = error_of(lambda: save_tensors(folder / WEIGHTS, {"a": torch.ones(1)}))
    assert f"cannot write {folder / WEIGHTS}" in message
    assert reason in message
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_interruption_while_writing_leaves_nothing_half_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(tensor_files, "save_file", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        save_tensors(folder / WEIGHTS, {"a": torch.ones(1)})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    error_of(lambda: save_tensors(tmp_path / "file" / WEIGHTS, {"a": torch.ones(1)}))
