"""The contract of captionless.config.training: the one source of the defaults of training."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest

from captionless.config.fields import field_choices
from captionless.config.presets import COURSE_TRAINING, TRAINING_PRESETS
from captionless.config.training import MAX_STEPS, TrainConfig
from captionless.diffusion.schedules import SCHEDULE_KINDS, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models.blocks import GROUP
from captionless.models.presets import course_denoiser, default_patch
from captionless.models.unet import DenoiserConfig
from captionless.training.network import network_config, noise_schedule
from captionless.training.start import Start


def refused(**given: Any) -> CaptionlessError:
    """Return the error that a config with these settings raises."""
    with pytest.raises(CaptionlessError) as error:
        TrainConfig(**given)
    assert error.value.code == "invalid_setting"
    return error.value


@pytest.mark.parametrize("name", ["size", "width", "batch", "learning_rate", "ema_half_life", "images", "minutes"])
@pytest.mark.parametrize("value", [0, -16, math.nan])
def test_amounts_must_be_above_zero(name: str, value: float) -> None:
    assert refused(**{name: value}).parameter == name


@pytest.mark.parametrize("name", ["hold_out", "condition_drop", "dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 10, math.nan])
def test_shares_lie_from_0_up_to_but_not_including_1(name: str, value: float) -> None:
    assert refused(**{name: value}).parameter == name
    TrainConfig(**{name: 0.0})


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5, math.nan])
def test_the_cosine_of_the_noisy_condition_must_be_possible(value: float) -> None:
    assert refused(condition_cosine=value).parameter == "condition_cosine"


@pytest.mark.parametrize(
    ("given", "suggested"),
    [({"width": 50}, 48), ({"width": 5}, 16), ({"size": 50}, 48), ({"size": 63}, 64)],
)
def test_sizes_no_denoiser_has_are_refused_with_the_nearest_that_one_has(given: Any, suggested: int) -> None:
    ((name, value),) = given.items()
    assert str(refused(**given)).endswith(f"not {value}. Try `{name}={suggested}`.")


def test_what_the_settings_allow_a_denoiser_can_be_made_of() -> None:
    for size in range(4, 300):
        try:
            settings = TrainConfig(size=size, width=GROUP)
        except CaptionlessError:
            continue
        DenoiserConfig(patch=default_patch(size), width=settings.width).check_size(size)


def test_grey_images_have_one_channel_and_colour_three() -> None:
    assert (TrainConfig(grey=True).channels, TrainConfig().channels) == (1, 3)


# --- the diffusion core ---

SCHEDULES = field_choices(TrainConfig.model_fields["schedule"])


@pytest.mark.parametrize("name", ["prediction", "schedule", "weighting", "mask", "network"])
def test_unknown_names_are_refused_with_those_there_are(name: str) -> None:
    known = field_choices(TrainConfig.model_fields[name])
    assert getattr(TrainConfig(), name) == known[0]
    assert str(refused(**{name: "cozy"})) == f"`{name}` must be one of {', '.join(known)}, not cozy."
    for choice in known:
        TrainConfig(**{name: choice})


@pytest.mark.parametrize(
    ("given", "parameter", "hint"),
    [
        ({"schedule": "linear", "schedule_steps": 1}, "schedule_steps", "Try `schedule_steps=1000`."),
        ({"schedule": "linear", "schedule_steps": MAX_STEPS + 1}, "schedule_steps", "at least 2 and at most 10,000"),
        ({"crop_probability": 0.8}, "crop_probability", "no effect with `crop=1`"),
        ({"schedule_steps": 150}, "schedule_steps", "no effect with `schedule=cosine`"),
        ({"schedule": "flow", "zero_terminal_snr": True}, "zero_terminal_snr", "no effect with `schedule=flow`"),
        (
            {"schedule": "linear", "prediction": "eps", "zero_terminal_snr": True},
            "zero_terminal_snr",
            "Choose `prediction=v`.",
        ),
        ({"tokens": -1}, "tokens", "Try `tokens=4`."),
        ({"tokens": 65}, "tokens", "at most 64"),
        ({"tokens": 4, "network": "course"}, "tokens", "Choose `network=standard`"),
        ({"tokens": 4, "attention": ()}, "tokens", "Choose `network=standard`"),
        ({"multipliers": ()}, "multipliers", "not none"),
        ({"multipliers": (1, 0)}, "multipliers", "at least 1, separated by commas, not 1,0"),
        ({"attention": (-1,)}, "attention", "at least 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_can(given: Any, parameter: str, hint: str) -> None:
    error = refused(**given)
    assert error.parameter == parameter
    assert error.value == given[parameter]
    assert hint in str(error)


@pytest.mark.parametrize(
    "given",
    [
        {"schedule": "linear", "schedule_steps": 2},
        {"schedule": "linear", "schedule_steps": MAX_STEPS},
        {"schedule": "linear", "zero_terminal_snr": True, "prediction": "x0"},
        {"schedule": "flow", "prediction": "flow", "weighting": "log-normal", "tokens": 64},
        {"schedule": "karras", "prediction": "eps", "mask": "element"},
        {"network": "course", "width": 16},
    ],
)
def test_what_the_settings_allow_has_a_schedule_and_a_network(given: Any) -> None:
    settings = TrainConfig(**given)
    assert type(noise_schedule(settings)) is SCHEDULE_KINDS[settings.schedule]
    made = network_config(Start(), settings, 10)
    assert (made.width, made.tokens, made.condition_width) == (settings.width, settings.tokens, 10)


def test_every_schedule_there_is_can_be_trained_and_saved() -> None:
    assert set(SCHEDULES) == set(SCHEDULE_KINDS)
    linear = TrainConfig(schedule="linear", schedule_steps=150, zero_terminal_snr=True)
    assert noise_schedule(linear) == LinearSchedule(150, 1e-4, 0.02, zero_terminal_snr=True)


def test_the_command_line_need_not_wait_for_torch_to_know_the_settings() -> None:
    code = "import sys, captionless.config.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- presets ---


@pytest.mark.parametrize("name", TRAINING_PRESETS)
def test_every_preset_can_be_trained(name: str) -> None:
    settings = TrainConfig(**TRAINING_PRESETS[name])
    network_config(Start(), settings, 512).check_size(settings.size)
    noise_schedule(settings)


def test_the_course_is_what_introductory_courses_train() -> None:
    settings = TrainConfig(**COURSE_TRAINING)
    assert noise_schedule(settings) == LinearSchedule(150, 1e-4, 0.02)
    assert (settings.prediction, settings.mask, settings.weighting) == ("eps", "element", "uniform")
    assert settings.condition_cosine == 1
    assert network_config(Start(), settings, 10) == course_denoiser(10)
    assert network_config(Start(), settings.replace(grey=True), 512) == course_denoiser(512, channels=1)


@pytest.mark.parametrize(
    "own", [{"schedule_steps": 400}, {"prediction": "v", "zero_terminal_snr": True}, {"size": 16}, {"width": 64}]
)
def test_single_settings_of_a_preset_may_be_changed(own: Any) -> None:
    settings = TrainConfig(**{**COURSE_TRAINING, **own})
    assert {name: getattr(settings, name) for name in own} == own
    assert network_config(Start(), settings, 10).multipliers == (1, 1, 2)


# --- on disk ---


def test_settings_survive_a_model_folder() -> None:
    settings = TrainConfig().replace(size=32, images=1000, minutes=None, learning_rate=3e-4, grey=True)
    for one in (settings, TrainConfig(**COURSE_TRAINING), settings.replace(schedule="linear", zero_terminal_snr=True)):
        assert TrainConfig.from_record(json.loads(json.dumps(one.model_dump(mode="json")))) == one


def test_recorded_settings_of_the_wrong_type_are_named_as_damage() -> None:
    for wrong in ({"size": "large"}, {"schedule": 7}, {"tokens": [4]}):
        with pytest.raises(CaptionlessError, match=r"settings recorded in config\.json are invalid"):
            TrainConfig.from_record(wrong)


def test_settings_of_another_version_are_read_as_far_as_they_are_known() -> None:
    assert TrainConfig.from_record({"size": 32, "colour_jitter": 0.1}) == TrainConfig(size=32)
