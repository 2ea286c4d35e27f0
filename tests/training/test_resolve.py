"""The contract of training.resolve and training.network: which settings, network and schedule a training has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from captionless.checkpoints.config import EncoderReference, ModelConfig, TrainingRecord
from captionless.config.presets import COURSE_TRAINING
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import SCHEDULE_KINDS, CosineSchedule, FlowSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models.unet import DenoiserConfig
from captionless.training.network import initial_schedule, network_config, noise_schedule
from captionless.training.resolve import INHERITED, resolve, resolve_settings
from captionless.training.start import Start
from captionless.training.tracking import check_tracker
from training_cases import Remembers

OTHERS: dict[str, Any] = {
    "prediction": "x0",
    "schedule": "flow",
    "schedule_steps": 400,
    "zero_terminal_snr": True,
    "network": "course",
}


def initialised(**recorded: Any) -> Start:
    config = TrainConfig(size=8, width=16, **recorded)
    shape = network_config(Start(), config, tiny.WIDTH)
    reference = EncoderReference("fake", "0" * 64, tiny.WIDTH, 20.0)
    record = TrainingRecord(settings=config.model_dump(mode="json"))
    return Start(ModelConfig(8, shape, reference, training=record), "parent")


def shape(**settings: Any) -> DenoiserConfig:
    return network_config(Start(), TrainConfig(**settings), tiny.WIDTH)


# --- the network ---


def test_the_network_is_the_usual_one_unless_the_settings_say_otherwise() -> None:
    usual = shape(size=64, width=32)
    assert (usual.patch, usual.multipliers, usual.attention, usual.blocks) == (4, (1, 2, 3), (1, 2), 2)
    given = {"multipliers": (1, 2, 2, 4), "attention": (3,), "patch": 2, "blocks": 1}
    own = shape(size=64, width=32, **given)
    assert {name: getattr(own, name) for name in given} == given
    assert replace(own, **{name: getattr(usual, name) for name in given}) == usual


def test_fewer_levels_leave_out_the_attention_of_those_that_are_gone() -> None:
    assert shape(multipliers=(1, 2)).attention == (1,)
    with pytest.raises(CaptionlessError, match="level 2, but the network only has levels 0 to 1"):
        shape(multipliers=(1, 2), attention=(2,))


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(CaptionlessError, match="size"):
        shape(size=36, patch=4)


def test_the_noise_schedule_is_the_named_one() -> None:
    for name, kind in SCHEDULE_KINDS.items():
        assert type(noise_schedule(TrainConfig(schedule=name))) is kind
    linear = TrainConfig(schedule="linear", schedule_steps=150, zero_terminal_snr=True)
    assert noise_schedule(linear) == LinearSchedule(150, zero_terminal_snr=True)


def test_a_model_expanded_to_larger_images_sees_as_much_noise_at_each_time_as_before() -> None:
    start = initialised()
    assert start.config is not None
    expanded = replace(start.config.denoiser, patch=2 * start.config.denoiser.patch)
    for kept in (start.config.denoiser, replace(start.config.denoiser, tokens=4)):
        assert initial_schedule(start, TrainConfig(), kept) == start.config.schedule
    schedule = initial_schedule(start, TrainConfig(), expanded)
    assert schedule == CosineSchedule(shift=-2 * math.log(2))
    # Resumed, it has the patch that it was expanded to: it is not shifted twice.
    resumed = replace(start, config=replace(start.config, denoiser=expanded, schedule=schedule), resumed=True)
    assert initial_schedule(resumed, TrainConfig(), expanded) == schedule
    assert initial_schedule(Start(), TrainConfig(schedule="flow"), expanded) == FlowSchedule()


# --- settings of a model that starts from another ---


@pytest.mark.parametrize(
    "recorded",
    [
        {},
        {"prediction": "flow", "schedule": "flow", "tokens": 4},
        {"prediction": "v", "schedule": "linear", "schedule_steps": 150, "zero_terminal_snr": True},
        {"prediction": "eps", "schedule": "linear", "schedule_steps": 150, "network": "course"},
    ],
)
def test_what_the_weights_mean_is_taken_over_from_the_model_started_from(recorded: Any) -> None:
    config = resolve_settings(initialised(**recorded), {"learning_rate": 1e-4})
    parent = TrainConfig(**recorded)
    assert {name: getattr(config, name) for name in INHERITED} == {name: getattr(parent, name) for name in INHERITED}
    assert config.tokens == parent.tokens
    assert set(INHERITED) == set(OTHERS)
    assert (config.learning_rate, config.size, config.width) == (1e-4, 8, 16)
    again: Any = {name: getattr(parent, name) for name in INHERITED}
    usual = TrainConfig().learning_rate
    assert resolve_settings(initialised(**recorded), again) == config.replace(learning_rate=usual)


@pytest.mark.parametrize("name", OTHERS)
def test_what_contradicts_the_model_started_from_is_refused_with_what_it_was_trained_with(name: str) -> None:
    given: Any = {name: OTHERS[name]}
    with pytest.raises(CaptionlessError, match=f"`{name}=.*trained with {getattr(TrainConfig(), name)}"):
        resolve_settings(initialised(), given)


def test_tokens_may_be_added_to_a_model_without_but_not_changed() -> None:
    config = resolve_settings(initialised(), {"tokens": 4})
    assert network_config(initialised(), config, tiny.WIDTH).tokens == 4
    for tokens in (0, 2):
        with pytest.raises(CaptionlessError, match="tokens"):
            resolve_settings(initialised(tokens=4), {"tokens": tokens})


def test_a_preset_does_not_fit_on_a_model_of_another_core() -> None:
    with pytest.raises(CaptionlessError, match="conflicts with the model given by `start_from`"):
        resolve_settings(initialised(), COURSE_TRAINING)


def test_how_noise_levels_are_weighted_may_change_from_one_training_to_the_next() -> None:
    config = resolve_settings(initialised(), {"weighting": "min-snr", "mask": "element"})
    assert (config.weighting, config.mask) == ("min-snr", "element")


def test_a_model_from_before_there_were_other_cores_is_continued_as_it_was_trained() -> None:
    start = initialised()
    assert start.config is not None
    old = {name: value for name, value in start.config.training.settings.items() if name not in INHERITED}
    config = resolve_settings(replace(start, config=replace(start.config, training=TrainingRecord(settings=old))), {})
    assert (config.prediction, config.schedule, config.tokens) == ("v", "cosine", 0)


# --- settings of a resumed run ---


def resumed() -> Start:
    return replace(initialised(), resumed=True)


@pytest.mark.parametrize("length", [{"images": 9}, {"precision": "float32"}, {"size": 8, "seed": 0}])
def test_a_resumed_training_may_change_its_length_and_precision(length: dict[str, Any]) -> None:
    assert resolve_settings(resumed(), length) == resolve_settings(resumed(), {}).replace(**length)


def test_a_limit_replaces_the_one_that_a_resumed_training_had() -> None:
    start = resumed()
    assert start.config is not None
    settings = start.config.training.settings | {"images": 100}
    start = replace(start, config=replace(start.config, training=TrainingRecord(settings=settings)))
    lengths = [{}, {"minutes": 9.0}, {"images": 200}, {"minutes": 9.0, "images": 200}, {"minutes": None}]
    found = [resolve_settings(start, length) for length in lengths]
    assert [(one.images, one.minutes) for one in found] == [
        *((100, None), (None, 9.0), (200, None), (200, 9.0), (100, None)),
    ]


@pytest.mark.parametrize(
    "given",
    [
        *({"size": 32}, {"seed": 1}, {"flip": False}, {"learning_rate": 1e-4}, {"hold_out": 0.1}, {"batch": 8}),
        *({"weighting": "min-snr"}, {"mask": "element"}, *({name: value} for name, value in OTHERS.items())),
    ],
)
def test_a_resumed_training_may_change_nothing_else(given: dict[str, Any]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(CaptionlessError, match="conflicts with the model being resumed") as error:
        resolve_settings(resumed(), given)
    assert (error.value.parameter, error.value.value, error.value.code) == (name, value, "contradicts_model")


def test_a_resumed_training_refuses_settings_that_do_not_exist() -> None:
    with pytest.raises(CaptionlessError, match="no setting `widht`"):
        resolve_settings(resumed(), {"widht": 64})


# --- requests ---


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"sample_prompts": ["a rose", " "]}, "empty prompt"),
        ({"evaluate_every": 0}, "`evaluate_every` must be an integer of at least 1"),
        ({"evaluate_every": 5}, "Add `hold_out=0.1`"),
        ({"track": "paper"}, "tensorboard, wandb, mlflow, trackio"),
        ({"classes": True, "encoder": "bundled"}, "`encoder` applies only to text-conditional training"),
        ({"classes": True, "vectors": "x.csv"}, "`vectors` applies only to text-conditional training"),
        ({"classes": True, "sample_prompts": ["a"]}, "`sample_prompts` applies only to text-conditional training"),
        ({"classes": True, "settings": {"condition_cosine": 0.9}}, "condition_cosine=0.9"),
        ({"out": Path("photos/model")}, "is inside photos"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_is_written(
    given: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = dict(given)
    settings = given.pop("settings", {})
    with pytest.raises(CaptionlessError, match=named) as error:
        resolve(TrainRequest(**({"folder": Path("photos"), "out": Path("model")} | given)), settings, Remembers().say)
    assert error.value.code
    assert error.value.parameter in {**given, **settings, "hold_out": None}
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_whose_package_is_missing_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("captionless.training.tracking.find_spec", lambda _: None)
    with pytest.raises(CaptionlessError, match="pip install wandb"):
        check_tracker("wandb")


def test_the_background_is_that_of_the_model_continued_unless_another_is_given() -> None:
    start = initialised(background="black")
    assert resolve_settings(start, {}).background == "black"
    assert resolve_settings(start, {"background": "red"}).background == "red"
    with pytest.raises(CaptionlessError, match="`background=red` conflicts with the model being resumed"):
        resolve_settings(replace(start, resumed=True), {"background": "red"})
