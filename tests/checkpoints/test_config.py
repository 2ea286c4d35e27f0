"""The contract of captionless.checkpoints.config: what `config.json` may hold, and what its errors name."""

import errno
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import schedule_cases
import tiny
from captionless.checkpoints.config import (
    CONFIG,
    FORMAT,
    EncoderReference,
    ModelConfig,
    TrainingRecord,
    base_folder,
    encoder_place,
    load_config,
    model_folder,
    save_config,
)
from captionless.checkpoints.model import Model
from captionless.config.fields import field_choices
from captionless.config.training import PREDICTIONS, TrainConfig
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule, LinearSchedule
from captionless.encoders.digest import IMAGE_SIDES
from captionless.errors import CaptionlessError
from captionless.models.unet import DenoiserConfig


@pytest.fixture
def folder(tmp_path: Path, model: Model) -> Path:
    save_config(tmp_path, model.config)
    return tmp_path


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


def test_everything_in_the_config_comes_back(tmp_path: Path, model: Model) -> None:
    config = replace(
        model.config,
        size=64,
        denoiser=DenoiserConfig(1, 2, 32, (1, 2, 2), 1, (2,), tiny.WIDTH, 0.1),
        schedule=CosineSchedule(9.0, -11.0),
        training=TrainingRecord(folder="Blümchen 🌻", settings={"seed": 3}, loss=0.25),
    )
    save_config(tmp_path, config)
    assert load_config(tmp_path) == config
    text = (tmp_path / CONFIG).read_text(encoding="utf-8")
    assert "Blümchen 🌻" in text
    assert json.loads(text)["format"] == FORMAT
    assert len(text.splitlines()) > 20


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
    assert set(SCHEDULE_KINDS) == set(field_choices(TrainConfig.model_fields["schedule"]))
    save_config(tmp_path, replace(model.config, schedule=LinearSchedule(150)))
    assert json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))["schedule"] == {
        "kind": "linear",
        "steps": 150,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "zero_terminal_snr": False,
    }


def test_bundled_names_the_shipped_model_and_anything_else_a_folder() -> None:
    assert model_folder("bundled").parts[-3:] == ("captionless", "bundled", "flowers")
    assert model_folder("runs/bundled") == Path("runs/bundled")
    assert model_folder("./bundled") == Path("bundled")


# --- earlier formats ---

FORMAT_6: dict[str, Any] = {
    "format": 6,
    "size": 16,
    "denoiser": {
        "channels": 3,
        "patch": 2,
        "width": 64,
        "multipliers": [1, 1, 2],
        "blocks": 2,
        "attention": [],
        "condition_width": 2,
        "dropout": 0.0,
        "tokens": 0,
        "activation": "silu",
        "time_features": 128,
        "bypass": True,
        "beside": 4,
    },
    "encoder": None,
    "schedule": {"kind": "cosine", "log_snr_max": 13.0, "log_snr_min": -13.0, "shift": 0.0},
    "prediction": "v",
    "training": {
        "captionless": "0.1.0",
        "folder": "photos",
        "pictures": 12,
        "held_out": 3,
        "from": "parent",
        "enlarge": "runs/small",
        "labels": "folders",
        "class_pictures": {"daisy": 5, "rose": 7},
        "settings": {"size": 16, "mask": "element"},
        "images": 640,
        "minutes": 1.5,
        "loss": 0.2,
    },
    "classes": ["daisy", "rose"],
    "enlarges": 8,
}
"""As captionless 0.1 wrote it."""


def write(folder: Path, values: dict[str, Any]) -> Path:
    (folder / CONFIG).write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_a_config_of_format_6_is_read_with_its_old_names(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FORMAT_6))
    assert (config.size, config.base_size, config.classes) == (16, 8, ("daisy", "rose"))
    assert config.denoiser.multipliers == (1, 1, 2)
    assert (config.denoiser.input_skip, config.denoiser.low_res_channels) == (True, 4)
    training = config.training
    assert (training.version, training.train_images, training.images_seen) == ("0.1.0", 12, 640)
    assert (training.initialised_from, training.base_model) == ("parent", "runs/small")
    assert training.class_images == {"daisy": 5, "rose": 7}
    save_config(tmp_path, config)
    assert load_config(tmp_path) == config


def test_a_config_of_format_1_has_the_cosine_schedule_predicts_v_and_has_no_classes(tmp_path: Path) -> None:
    encoder = {"name": "fake", "digest": "0", "width": 2, "logit_scale": 20.0}
    denoiser = {"channels": 3, "patch": 1, "width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [1]}
    values = {
        "format": 1,
        "size": 8,
        "denoiser": denoiser | {"condition_width": 2, "dropout": 0.0},
        "encoder": encoder,
        "schedule": {"log_snr_max": 9.0, "log_snr_min": -11.0},
        "training": {"from": None, "pictures": 3},
    }
    config = load_config(write(tmp_path, values))
    assert (config.schedule, config.prediction) == (CosineSchedule(9.0, -11.0), "v")
    assert (config.classes, config.base_size, config.denoiser.tokens) == ((), None, 0)


def test_a_config_that_says_nothing_of_crops_has_none(tmp_path: Path, model: Model) -> None:
    save_config(tmp_path, model.config)
    edit(tmp_path, lambda values: values["denoiser"].pop("crops"))
    assert load_config(tmp_path) == model.config


def test_the_hash_of_the_whole_shipped_encoder_becomes_that_of_its_image_side(tmp_path: Path, model: Model) -> None:
    save_config(tmp_path, model.config)
    for whole, image in (*IMAGE_SIDES.items(), ("5" * 64, "5" * 64)):
        edit(
            tmp_path, lambda values, whole=whole: values.update(format=7, encoder=values["encoder"] | {"digest": whole})
        )
        encoder = load_config(tmp_path).encoder
        assert encoder is not None
        assert encoder.digest == image


def test_a_base_model_is_found_in_the_folder_that_earlier_formats_used(tmp_path: Path) -> None:
    assert base_folder(tmp_path).name == "base"
    (tmp_path / "small").mkdir()
    assert base_folder(tmp_path).name == "small"
    (tmp_path / "base").mkdir()
    assert base_folder(tmp_path).name == "base"


def test_a_model_of_a_newer_version_requires_an_upgrade(folder: Path) -> None:
    edit(folder, lambda values: values.update(format=FORMAT + 1))
    assert f"newer version of captionless (format {FORMAT + 1}). Upgrade" in error_of(lambda: load_config(folder))


# --- what is refused ---

LINEAR = {"kind": "linear", "steps": 150}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schedule": {"kind": "quadratic"}}, "`schedule` must be one of cosine, linear, "),
        ({"schedule": {"kind": "linear", "log_snr_max": 13.0}}, "schedule.log_snr_max: "),
        ({"schedule": {"kind": "flow", "steps": 150}}, "schedule.steps: "),
        ({"schedule": {**LINEAR, "steps": 150.5}}, "schedule.steps: "),
        ({"schedule": {**LINEAR, "zero_terminal_snr": 1}}, "schedule.zero_terminal_snr: "),
        ({"schedule": {**LINEAR, "beta_end": "2%"}}, "schedule.beta_end: "),
        ({"schedule": {**LINEAR, "steps": 10**12}}, "the linear schedule needs 2 to 10,000 steps"),
        ({"schedule": {"kind": "karras", "sigma_min": -1.0}}, "1e-5 <= sigma_min < sigma_max"),
        ({"schedule": {"kind": "sigmoid", "end": math.inf}}, "schedule.end: "),
        ({"schedule": [1]}, "schedule: "),
        ({"denoiser": [1]}, "denoiser: "),
        ({"encoder": [1]}, "encoder: "),
        ({"training": "none"}, "training: "),
        ({"prediction": "score"}, "`prediction` must be one of v, eps, x0, flow, not 'score'."),
        ({"prediction": None}, "prediction: "),
        ({"size": "large"}, "size: "),
        ({"size": 9}, "size: "),
        ({"size": 0}, "size: "),
        ({"unheard of": 1}, "unheard of: "),
    ],
)
def test_a_value_that_makes_no_sense_is_named_by_file_and_key(changes: Any, named: str, folder: Path) -> None:
    edit(folder, lambda values: values.update(changes))
    message = error_of(lambda: load_config(folder))
    assert str(folder / CONFIG) in message
    assert named in message


@pytest.mark.parametrize(
    ("part", "name", "value", "named"),
    [
        ("denoiser", "width", 16.0, "denoiser.width: "),
        ("denoiser", "width", True, "denoiser.width: "),
        ("denoiser", "width", "16", "denoiser.width: "),
        ("denoiser", "width", 33, "33"),
        ("denoiser", "multipliers", [1, 2.5], "denoiser.multipliers.1: "),
        ("denoiser", "multipliers", [], ""),
        ("denoiser", "dropout", "a", "denoiser.dropout: "),
        ("denoiser", "dropout", 2, "denoiser.dropout: "),
        ("denoiser", "depth", 3, "denoiser.depth: "),
        ("encoder", "name", 5, "encoder.name: "),
        ("encoder", "width", 9, "denoiser.condition_width: "),
        ("encoder", "logit_scale", 0, "encoder.logit_scale: "),
        ("encoder", "logit_scale", math.nan, "encoder.logit_scale: "),
        ("schedule", "log_snr_max", 10**400, "schedule.log_snr_max: "),
        ("schedule", "log_snr_max", -20, ""),
        ("training", "images_seen", "many", "training.images_seen: "),
        ("training", "minutes", None, "training.minutes: "),
        ("training", "settings", [], "training.settings: "),
    ],
)
def test_a_value_inside_a_part_is_named_by_file_and_key(
    part: str, name: str, value: object, named: str, folder: Path
) -> None:
    edit(folder, lambda values: values[part].update({name: value}))
    message = error_of(lambda: load_config(folder))
    assert str(folder / CONFIG) in message
    assert named in message


@pytest.mark.parametrize("change", [lambda values: values.pop("encoder"), lambda values: values["encoder"].pop("name")])
def test_a_missing_key_is_named(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    edit(folder, change)
    assert "encoder" in error_of(lambda: load_config(folder))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"classes": []}, "either an encoder or classes"),
        ({"classes": ["daisy", "daisy"]}, "must be unique and not empty"),
        ({"classes": ["daisy", ""]}, "must be unique and not empty"),
        ({"classes": ["daisy", "rose", "tulip"]}, "denoiser.condition_width: "),
        ({"classes": ["daisy", 2]}, "classes.1: "),
        ({"classes": "daisy"}, "classes: "),
        ({"encoder": {"name": "x", "digest": "0", "width": 2, "logit_scale": 1.0}}, "either an encoder or classes"),
    ],
)
def test_classes_that_make_no_sense_are_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    save_config(tmp_path, tiny.class_model().config)
    edit(tmp_path, lambda values: values.update(change))
    assert named in error_of(lambda: load_config(tmp_path))


def test_a_model_of_classes_has_no_encoder_to_offer() -> None:
    classes = tiny.class_model().config
    assert "The classes are: daisy, rose." in error_of(lambda: classes.require_encoder("x"))
    assert tiny.model().config.require_encoder("x") == tiny.model().config.encoder


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": 1, "size":',
        b"\xff\xfe" * 2000,
        b"null",
        b'{"architectures": ["CLIPModel"], "model_type": "clip"}',
        b'{"format": "1"}',
        b'{"format": 1}',
        b'{"format": 7}',
    ],
    ids=["empty", "cut", "not text", "null", "of another library", "format as text", "little of 1", "little of 7"],
)
def test_a_damaged_or_foreign_config_is_named(content: bytes, folder: Path) -> None:
    (folder / CONFIG).write_bytes(content)
    assert f"{folder / CONFIG} is damaged or does not describe" in error_of(lambda: load_config(folder))


def test_what_is_no_model_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'} does not exist" in error_of(lambda: load_config(tmp_path / "nowhere"))
    assert "no config.json" in error_of(lambda: load_config(tmp_path))
    (tmp_path / "photo.png").write_bytes(b"")
    error_of(lambda: load_config(tmp_path / "photo.png"))


def test_a_config_that_cannot_be_written_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / CONFIG).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config: ModelConfig = replace(load_config(folder), training=TrainingRecord())
    monkeypatch.setattr(Path, "write_text", full)
    assert "No space left" in error_of(lambda: save_config(folder, config))
    assert (folder / CONFIG).read_bytes() == before


@pytest.mark.parametrize("place", ["encoder", "base/encoder"])
def test_a_learned_encoder_is_found_in_a_model_folder_that_was_moved(tmp_path: Path, place: str) -> None:
    reference = EncoderReference("/an/earlier/place/encoder", "0" * 64, 8, 10.0)
    assert encoder_place(tmp_path, reference) == reference.name
    (tmp_path / place).mkdir(parents=True)
    assert encoder_place(tmp_path, reference) == str(tmp_path / place)
