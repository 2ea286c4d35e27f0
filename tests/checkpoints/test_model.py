"""The contract of captionless.checkpoints.model: what a model is on disk."""

import errno
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

import schedule_cases
import tiny
from captionless.checkpoints import model as checkpoint
from captionless.checkpoints.model import (
    BANK,
    CONFIG,
    WEIGHTS,
    Model,
    half,
    load_config,
    load_model,
    model_folder,
    read_metadata,
    read_tensors,
    save_config,
    save_tensors,
)
from captionless.config.training import PREDICTIONS, SCHEDULES
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models.unet import DenoiserConfig


def write(folder: Path, model: Model, *, smaller: bool = False) -> Path:
    weights: dict[str, Tensor] = model.denoiser.state_dict()
    save_tensors(folder / WEIGHTS, half(weights) if smaller else weights)
    if model.config.encoder:
        save_tensors(folder / BANK, {"vectors": model.bank})
    save_config(folder, model.config)
    return folder


@pytest.fixture
def folder(tmp_path: Path, model: Model) -> Path:
    return write(tmp_path / "runs" / "flowers", model)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    change(values)
    (folder / CONFIG).write_text(json.dumps(values), encoding="utf-8")


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


def test_everything_in_the_config_comes_back(tmp_path: Path, model: Model) -> None:
    config = replace(
        model.config,
        size=64,
        denoiser=DenoiserConfig(1, 2, 32, (1, 2, 2), 1, (2,), tiny.WIDTH, 0.1),
        schedule=CosineSchedule(9.0, -11.0),
        training={"folder": "Blümchen 🌻", "loss": None, "settings": {"seed": 3}},
    )
    save_config(tmp_path, config)
    assert load_config(tmp_path) == config


def test_the_config_is_json_that_a_person_can_read(folder: Path) -> None:
    text = (folder / CONFIG).read_text(encoding="utf-8")
    assert "fleurs d'été" in text
    assert json.loads(text)["format"] == checkpoint.FORMAT
    assert len(text.splitlines()) > 20


def test_weights_in_another_memory_format_are_saved_the_same(tmp_path: Path, model: Model) -> None:
    first = write(tmp_path / "a", model) / WEIGHTS
    model.denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    second = write(tmp_path / "b", model) / WEIGHTS
    assert first.read_bytes() == second.read_bytes()


def test_text_can_be_stored_beside_tensors(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {"note": "é"})
    assert read_metadata(tmp_path / "x.safetensors") == {"note": "é"}
    assert read_tensors(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]


def test_files_without_text_have_none(folder: Path) -> None:
    assert read_metadata(folder / BANK) == {}


def test_bundled_names_the_shipped_model_and_anything_else_a_folder() -> None:
    assert model_folder("bundled").parts[-3:] == ("captionless", "bundled", "flowers")
    assert model_folder("runs/bundled") == Path("runs/bundled")
    assert model_folder("./bundled") == Path("bundled")


# --- the diffusion core ---


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", schedule_cases.EVERY.values(), ids=schedule_cases.EVERY)
def test_every_schedule_and_prediction_comes_back(
    schedule: AnySchedule, prediction: str, tmp_path: Path, model: Model
) -> None:
    schedule.alpha_sigma(torch.tensor(0.5))  # what was computed from it is not written
    config = replace(model.config, schedule=schedule, prediction=prediction)
    save_config(tmp_path, config)
    loaded = load_config(tmp_path)
    assert loaded == config
    assert type(loaded.schedule) is type(schedule)


def test_the_kinds_of_schedules_are_named_in_the_file_as_in_the_settings(tmp_path: Path, model: Model) -> None:
    assert set(SCHEDULE_KINDS) == set(SCHEDULES)
    save_config(tmp_path, replace(model.config, schedule=LinearSchedule(150), prediction="eps"))
    values = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    assert values["prediction"] == "eps"
    assert values["schedule"] == {
        "kind": "linear",
        "steps": 150,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "zero_terminal_snr": False,
    }


def test_a_model_of_format_1_has_the_cosine_schedule_and_predicts_v(folder: Path, model: Model) -> None:
    def as_written_then(values: dict[str, Any]) -> None:
        values["format"] = 1
        values["schedule"] = {"log_snr_max": 9.0, "log_snr_min": -11.0}
        del values["prediction"]
        for name in ("tokens", "activation", "time_features"):
            del values["denoiser"][name]

    edit(folder, as_written_then)
    loaded = load_model(folder)
    assert (loaded.config.schedule, loaded.config.prediction) == (CosineSchedule(9.0, -11.0), "v")
    assert loaded.config.denoiser == model.config.denoiser


LINEAR = {"kind": "linear", "steps": 150}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schedule": {"kind": "quadratic"}}, "there is no schedule 'quadratic'. Choose one of: cosine, linear, "),
        ({"schedule": {"kind": 5}}, "schedule.kind must be text, not 5"),
        ({"schedule": {"kind": None}}, "schedule.kind must be text, not null"),
        ({"schedule": {"kind": "linear", "log_snr_max": 13.0}}, "schedule.log_snr_max is not known"),
        ({"schedule": {"kind": "flow", "steps": 150}}, "schedule.steps is not known"),
        ({"schedule": {**LINEAR, "steps": 150.5}}, "schedule.steps must be a whole number, not 150.5"),
        ({"schedule": {**LINEAR, "zero_terminal_snr": 1}}, "schedule.zero_terminal_snr must be true or false, not 1"),
        ({"schedule": {**LINEAR, "beta_end": "2%"}}, 'schedule.beta_end must be a number, not "2%"'),
        ({"schedule": {**LINEAR, "steps": 10**12}}, "a linear schedule needs 2 to 10,000 steps"),
        ({"schedule": {"kind": "karras", "sigma_min": -1.0}}, "noise levels need 1e-5 <= sigma_min < sigma_max"),
        ({"schedule": {"kind": "sigmoid", "end": math.inf}}, "schedule.end must be a number, not Infinity"),
        ({"prediction": "score"}, "there is no prediction 'score'. Choose one of: v, eps, x0, flow."),
        ({"prediction": None}, "prediction must be text, not null"),
    ],
)
def test_a_core_that_is_not_known_is_named_together_with_its_file(
    changes: dict[str, Any], told: str, folder: Path
) -> None:
    edit(folder, lambda values: values.update(changes))
    message = error_of(lambda: load_model(folder))
    assert str(folder / CONFIG) in message
    assert told in message


# --- models of classes ---


def test_a_model_of_classes_comes_back_without_encoder_and_bank(tmp_path: Path) -> None:
    model = tiny.class_model(("daisy", "rosé", "wild rose"))
    loaded = load_model(write(tmp_path, model))
    assert loaded.config == model.config
    assert (loaded.config.encoder, loaded.config.classes) == (None, ("daisy", "rosé", "wild rose"))
    assert loaded.config.condition_width == 3
    assert loaded.bank.shape == (0, 3)
    assert loaded.text_mean is None


def test_what_needs_an_encoder_is_answered_by_the_classes_there_are() -> None:
    model = tiny.class_model()
    assert "it has no encoder" in error_of(lambda: model.bridge_data)
    assert "The classes are: daisy, rose." in error_of(lambda: model.config.words("x"))
    assert tiny.model().config.words("x") == tiny.model().config.encoder


def test_a_config_without_classes_is_one_of_words(folder: Path, model: Model) -> None:
    edit(folder, lambda values: values.pop("classes"))
    assert load_config(folder) == model.config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": []}, "either an encoder or classes"),
        ({"classes": ["daisy", "daisy"]}, "a name of its own"),
        ({"classes": ["daisy", ""]}, "a name of its own"),
        ({"classes": ["daisy", "rose", "tulip"]}, "its classes and its denoiser do not fit"),
        ({"classes": ["daisy", 2]}, "classes[1] must be text, not 2"),
        ({"classes": "daisy"}, 'classes must be a list, not "daisy"'),
        ({"encoder": {"name": "x", "digest": "0", "width": 2, "logit_scale": 1.0}}, "either an encoder or classes"),
    ],
)
def test_classes_that_make_no_sense_are_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = write(tmp_path, tiny.class_model())
    edit(folder, lambda values: values.update(change))
    assert told in error_of(lambda: load_model(folder))


# --- folders that are no model ---


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'} does not exist" in error_of(lambda: load_model(tmp_path / "nowhere"))


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    assert "no config.json" in error_of(lambda: load_model(tmp_path))


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    error_of(lambda: load_model(tmp_path / "photo.png"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": 1, "size":',
        b"\xff\xfe" * 2000,
        b"null",
        b"[]",
        b'"text"',
        b'{"architectures": ["CLIPModel"], "model_type": "clip"}',
        b'{"format": "1"}',
        b'{"format": 1}',
    ],
    ids=["empty", "cut", "not text", "null", "list", "string", "of another library", "format as text", "little"],
)
def test_a_damaged_or_foreign_config_is_named(content: bytes, folder: Path) -> None:
    (folder / CONFIG).write_bytes(content)
    assert f"{folder / CONFIG} is damaged or not of a captionless model" in error_of(lambda: load_model(folder))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("encoder"),
        lambda values: values["encoder"].pop("digest"),
        lambda values: values["encoder"].update(width=9),
        lambda values: values["encoder"].update(logit_scale=0),
        lambda values: values["encoder"].update(logit_scale="hot"),
        lambda values: values.update(encoder="bundled"),
        lambda values: values.update(size="large"),
        lambda values: values.update(size=9),
        lambda values: values.update(size=0),
        lambda values: values.update(training="none"),
        lambda values: values["denoiser"].update(width="16"),
        lambda values: values["denoiser"].update(width=17),
        lambda values: values["denoiser"].update(multipliers=[]),
        lambda values: values["denoiser"].update(multipliers=3),
        lambda values: values["denoiser"].update(depth=3),
        lambda values: values["schedule"].update(log_snr_max=None),
        lambda values: values["schedule"].update(log_snr_max=-20),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    edit(folder, change)
    error_of(lambda: load_model(folder))


@pytest.mark.parametrize(
    ("part", "name", "value", "told"),
    [
        ("denoiser", "width", 16.0, "denoiser.width must be a whole number, not 16.0"),
        ("denoiser", "width", True, "denoiser.width must be a whole number, not true"),
        ("denoiser", "width", 33, "--width must be a multiple of 16, not 33"),
        ("denoiser", "multipliers", [1, 2.5], "denoiser.multipliers[1] must be a whole number"),
        ("denoiser", "dropout", "a", 'denoiser.dropout must be a number, not "a"'),
        ("denoiser", "dropout", 2, "denoiser.dropout must be from 0"),
        ("denoiser", "depth", 3, "denoiser.depth is not known"),
        ("encoder", "name", 5, "encoder.name must be text, not 5"),
        ("encoder", "logit_scale", math.nan, "encoder.logit_scale must be a number, not NaN"),
        ("schedule", "log_snr_max", 10**400, "OverflowError"),
        ("training", "images", "many", "training.images must be a whole number"),
        ("training", "minutes", None, "training.minutes must be a number, not null"),
        ("training", "settings", [], "training.settings must be an object"),
    ],
)
def test_a_value_of_a_wrong_kind_is_named_together_with_its_file(
    part: str, name: str, value: object, told: str, folder: Path
) -> None:
    edit(folder, lambda values: values[part].update({name: value}))
    message = error_of(lambda: load_model(folder))
    assert str(folder / CONFIG) in message
    assert told in message


@pytest.mark.parametrize("part", ["denoiser", "encoder", "schedule", "training"])
def test_a_part_that_is_no_object_is_named(part: str, folder: Path) -> None:
    edit(folder, lambda values: values.update({part: [1]}))
    message = error_of(lambda: load_model(folder))
    assert f"{folder / CONFIG} is damaged" in message
    assert f"{part} must be an object, not [1]" in message


def test_a_model_of_a_newer_version_asks_for_an_upgrade(folder: Path) -> None:
    edit(folder, lambda values: values.update(format=checkpoint.FORMAT + 1))
    newer = f"newer captionless (format {checkpoint.FORMAT + 1}). Upgrade"
    assert newer in error_of(lambda: load_model(folder))


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
    assert f"the weights in {folder / WEIGHTS} do not fit" in error_of(lambda: load_model(folder))


@pytest.mark.parametrize("change", [{"extra": torch.ones(1)}, {"stem.weight": None}], ids=["too many", "too few"])
def test_weights_of_another_network_are_refused(change: dict[str, Tensor | None], folder: Path) -> None:
    weights = read_tensors(folder / WEIGHTS) | change
    save_tensors(folder / WEIGHTS, {name: tensor for name, tensor in weights.items() if tensor is not None})
    assert "do not fit" in error_of(lambda: load_model(folder))


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
    assert f"{folder / BANK} does not fit" in error_of(lambda: load_model(folder))


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
    monkeypatch.setattr(checkpoint, "save_file", failing(error))
    message = error_of(lambda: save_tensors(folder / WEIGHTS, {"a": torch.ones(1)}))
    assert f"cannot write {folder / WEIGHTS}" in message
    assert reason in message
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_interruption_while_writing_leaves_nothing_half_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(checkpoint, "save_file", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        save_tensors(folder / WEIGHTS, {"a": torch.ones(1)})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_config_that_cannot_be_written_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / CONFIG).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    config = replace(load_config(folder), training={})
    assert "No space left" in error_of(lambda: save_config(folder, config))
    assert (folder / CONFIG).read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    error_of(lambda: save_tensors(tmp_path / "file" / WEIGHTS, {"a": torch.ones(1)}))
