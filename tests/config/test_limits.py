"""Absurd values are told in one line, before anything is read or allocated for them."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin

import pytest
import torch

import encoder_factory
import tiny
from captionless import cli
from captionless.checkpoints.config import CONFIG, load_config, save_config
from captionless.config.base import Config
from captionless.config.evaluation import EvaluationConfig
from captionless.config.export import ExportRequest
from captionless.config.fields import field_type
from captionless.config.generate_request import GenerateRequest
from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.config.shards import ShardConfig
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig
from captionless.device import is_out_of_memory, memory_bytes
from captionless.encoders import load_encoder
from captionless.encoders.hub import is_name_encoder, weight_files
from captionless.encoders.vocabulary import read_vocabulary
from captionless.errors import CaptionlessError
from captionless.generation.prompts import check_prompts, read_prompts
from captionless.models.unet import DenoiserConfig
from captionless.training.network import network_config
from captionless.training.start import Start
from platforms import DEVICES

HUGE, DEEP = 10**9, "[" * 100_000 + "]" * 100_000


def error_of(action: Callable[[], object]) -> str:
    started = time.process_time()
    with pytest.raises(CaptionlessError) as error:
        action()
    assert time.process_time() - started < 10
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


SETTINGS: list[tuple[type[Config], str]] = [
    *((SamplingConfig, name) for name in ("steps", "upsample_steps", "batch", "neighbours", "mean_shift_iterations")),
    *((TrainConfig, name) for name in ("size", "width", "batch", "accumulate", "patch", "blocks", "sample_grids")),
    (TrainConfig, "minutes"),
    *((EvaluationConfig, name) for name in ("samples", "training_samples", "prompt_images", "max_prompts")),
    (cli.threads.ThreadOptions, "threads"),
]


@pytest.mark.parametrize(("config", "name"), SETTINGS)
def test_a_setting_of_a_thousand_million_is_refused(config: type[Config], name: str) -> None:
    assert str(HUGE) in error_of(lambda: config(**{name: HUGE}))


@pytest.mark.parametrize("name", ["images", "warm_up", "ema_half_life"])
def test_counts_of_images_may_be_large_but_not_endless(name: str) -> None:
    TrainConfig(**{name: HUGE})
    assert f"`{name}`" in error_of(lambda: TrainConfig(**{name: 10**400}))


CONFIGS: dict[type[Config], dict[str, str]] = {
    **{one: {} for one in (SamplingConfig, TrainConfig, EvaluationConfig, ServeConfig, ShardConfig, GenerateRequest)},
    TrainRequest: {"folder": "x", "out": "y"},
    ExportRequest: {"model": "x", "to": "hub"},
}


@pytest.mark.parametrize("text", ["\udcff", "\0", "x" * 1_000_000, "1," * 1_000_000, "9" * 5_000, "-inf", "nan"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_any_text_for_any_setting_is_a_value_or_one_short_line(config: type[Config], text: str) -> None:
    for name, field in config.model_fields.items():
        value = tuple(text.split(",")) if get_origin(field_type(field)) is tuple else text
        try:
            config(**(CONFIGS[config] | {name: value}))
        except CaptionlessError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message.encode()) < 10_000


def test_the_size_of_a_base_model_is_limited() -> None:
    assert "base_size" in error_of(lambda: TrainRequest(folder=Path("x"), out=Path("y"), base_size=HUGE))


@pytest.mark.parametrize("name", ["multipliers", "attention"])
@pytest.mark.parametrize("levels", [(1, HUGE), (1,) * 100_000])
def test_levels_are_limited(name: str, levels: tuple[int, ...]) -> None:
    assert f"`{name}` must be up to 16 integers of at most" in error_of(lambda: TrainConfig(**{name: levels}))


def test_more_images_and_longer_prompts_than_make_sense_are_refused() -> None:
    assert "1,000,000,000" in error_of(lambda: check_prompts(["a rose"], HUGE, 0))
    assert "1,000,000 characters" in error_of(lambda: check_prompts(["x" * 1_000_000], 1, 0))


# --- memory ---


@pytest.mark.parametrize("given", [{"width": 16_384}, {"batch": 100_000, "size": 4096}])
def test_a_training_that_cannot_fit_into_memory_is_refused_before_it_begins(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionless.training.network.memory_bytes", lambda: 64e9)
    assert "this machine has 64" in error_of(lambda: network_config(Start(), TrainConfig(**given), 512))


def test_the_memory_of_this_machine_is_known() -> None:
    assert memory_bytes() > 1e8


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOENT, "No such file"), False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("shapes do not match"), False),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (ImportError("No module named torch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_lack_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_lack_of_memory_is_one_line_in_every_command(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("captionless: there is not enough memory.")


# --- files ---


@DEVICES
def test_a_file_that_never_ends_is_refused(tmp_path: Path) -> None:
    assert "more than 100,000,000 bytes" in error_of(lambda: read_prompts(Path("/dev/zero")))
    (tmp_path / CONFIG).symlink_to("/dev/zero")
    assert "it is a device, not a file" in error_of(lambda: load_config(tmp_path))


def test_json_that_is_nested_deeply_is_refused(tmp_path: Path) -> None:
    for name in (CONFIG, "model.safetensors.index.json", "vocabulary.json"):
        (tmp_path / name).write_text(DEEP)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": ' + DEEP + "}")
    assert "is damaged" in error_of(lambda: load_config(tmp_path))
    assert "is damaged" in error_of(lambda: weight_files(tmp_path))
    assert "is damaged" in error_of(lambda: read_vocabulary(tmp_path))
    assert "invalid JSON" in error_of(lambda: read_prompts(tmp_path / "prompts.jsonl"))
    assert not is_name_encoder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"size": HUGE},
        {"size": 2**70},
        *({"denoiser": {name: 160_000_000}} for name in ("width", "patch", "blocks", "channels", "condition_width")),
        *({"denoiser": {name: 160_000_000}} for name in ("tokens", "time_features", "low_res_channels")),
        {"denoiser": {"multipliers": [1, 10**12]}},
        {"denoiser": {"multipliers": [1] * 50}},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_model_of_absurd_size_is_refused_by_its_config(change: dict[str, Any], tmp_path: Path) -> None:
    save_config(tmp_path, tiny.model().config)
    values = json.loads((tmp_path / CONFIG).read_text())
    denoiser = values["denoiser"] | change.get("denoiser", {})
    (tmp_path / CONFIG).write_text(json.dumps(values | change | {"denoiser": denoiser}))
    assert str(tmp_path / CONFIG) in error_of(lambda: load_config(tmp_path))


def test_the_limits_leave_room_for_what_is_sensible() -> None:
    DenoiserConfig(width=1024, multipliers=(1, 2, 4, 8, 8, 8), blocks=8, condition_width=21_841, tokens=64)
    replace(tiny.SHAPE, condition_width=100_000)


def test_a_tokenizer_that_makes_texts_endless_is_refused(tmp_path: Path) -> None:
    folder = encoder_factory.small_pair(tmp_path)
    path = folder / "tokenizer.json"
    rules = json.loads(path.read_text(encoding="utf-8"))
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    rules["normalizer"] = {"type": "Sequence", "normalizers": [double] * 40}
    path.write_text(json.dumps(rules), encoding="utf-8")
    assert "makes texts more than 10,000 times as long" in error_of(lambda: load_encoder(str(folder)))


def test_the_padding_that_a_tokenizer_records_is_not_used(tmp_path: Path) -> None:
    folder = encoder_factory.small_pair(tmp_path)
    before = load_encoder(str(folder)).encode_texts(["a rose"])
    path = folder / "tokenizer.json"
    rules = json.loads(path.read_text(encoding="utf-8"))
    padding = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    rules["padding"] = padding | {"strategy": {"Fixed": HUGE}}
    path.write_text(json.dumps(rules), encoding="utf-8")
    assert torch.equal(load_encoder(str(folder)).encode_texts(["a rose"]), before)


def damage(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("config.json", {"text_config": {"num_hidden_layers": HUGE}}, "num_hidden_layers is 1,000,000,000"),
        ("config.json", {"vision_config": {"depths": [1, HUGE]}}, "depths is 1,000,000,000"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "cannot be loaded"),
        ("preprocessor_config.json", {"resample": 99}, "cannot be loaded"),
        ("preprocessor_config.json", {"do_center_crop": True, "crop_size": {"height": HUGE, "width": HUGE}}, "cannot"),
    ],
)
def test_an_encoder_of_absurd_settings_is_refused(
    name: str, change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    folder = encoder_factory.small_pair(tmp_path)
    damage(folder / name, lambda values: values.update(change))
    assert expected in error_of(lambda: load_encoder(str(folder)))


def test_an_encoder_whose_files_do_not_end_is_refused(tmp_path: Path) -> None:
    folder = encoder_factory.small_pair(tmp_path)
    os.truncate(folder / "preprocessor_config.json", 2**40)
    assert "more than 100,000,000 bytes" in error_of(lambda: load_encoder(str(folder)))
