"""The contract of captionless.settings: the one source of the defaults of training."""

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from captionless.blocks import GROUP
from captionless.denoiser import DenoiserConfig, default_patch
from captionless.errors import CaptionlessError
from captionless.settings import GivenSettings, TrainSettings, check_unchanged, flag, settings_from_dict


@pytest.mark.parametrize("name", ["size", "width", "batch", "learning_rate", "ema_half_life", "images", "minutes"])
@pytest.mark.parametrize("value", [0, -16, math.nan])
def test_amounts_must_be_more_than_nothing(name: str, value: float) -> None:
    with pytest.raises(CaptionlessError, match=f"{flag(name)} must be more than 0, not {value}"):
        TrainSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["hold_out", "condition_drop", "dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 10, math.nan])
def test_shares_must_lie_from_0_up_to_but_not_including_1(name: str, value: float) -> None:
    with pytest.raises(CaptionlessError, match=rf"{flag(name)} must .* not {value}"):
        TrainSettings(**{name: value})  # type: ignore[arg-type]
    TrainSettings(**{name: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5, math.nan])
def test_the_cosine_of_the_blurred_condition_must_be_possible(value: float) -> None:
    with pytest.raises(CaptionlessError, match=f"--condition-cosine must .* not {value}"):
        TrainSettings(condition_cosine=value)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(CaptionlessError, match="'fp16'"):
        TrainSettings(precision="fp16")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 50}, "--width must be a multiple of 16, not 50. Try 48."),
        ({"width": 5}, "--width must be a multiple of 16, not 5. Try 16."),
        ({"size": 50}, "--size must be a multiple of 4, not 50. Try 48."),
        ({"size": 63}, "--size must be a multiple of 4, not 63. Try 64."),
    ],
)
def test_sizes_no_denoiser_has_are_refused_before_any_picture_is_read(given: Any, message: str) -> None:
    with pytest.raises(CaptionlessError) as error:
        TrainSettings(**given)
    assert str(error.value) == message


def test_what_the_settings_allow_a_denoiser_can_be_made_of() -> None:
    for size in range(4, 300):
        try:
            settings = TrainSettings(size=size, width=GROUP)
        except CaptionlessError:
            continue
        DenoiserConfig(patch=default_patch(size), width=settings.width).check_size(size)


def test_grey_pictures_have_one_channel_and_colour_three() -> None:
    assert (TrainSettings(grey=True).channels, TrainSettings().channels) == (1, 3)


def test_a_setting_is_spelled_as_on_the_command_line() -> None:
    assert flag("learning_rate") == "--learning-rate"


def test_callers_may_give_every_setting() -> None:
    assert list(GivenSettings.__annotations__) == [field.name for field in fields(TrainSettings)]


# --- resuming ---


@pytest.mark.parametrize("length", [{"images": 9}, {"minutes": 9.0}, {"precision": "float32"}])
def test_a_resumed_training_may_change_its_length_and_precision(length: GivenSettings) -> None:
    check_unchanged(length, TrainSettings())


@pytest.mark.parametrize(
    "given", [{"size": 32}, {"seed": 1}, {"flip": False}, {"learning_rate": 1e-4}, {"hold_out": 0.1}, {"batch": 8}]
)
def test_a_resumed_training_may_change_nothing_else(given: GivenSettings) -> None:
    ((name, value),) = given.items()
    with pytest.raises(CaptionlessError, match=f"{flag(name)} {value} contradicts .* begun with"):
        check_unchanged(given, TrainSettings())


def test_giving_a_resumed_training_the_settings_it_has_is_no_change() -> None:
    check_unchanged({"size": 64, "seed": 0, "flip": True}, TrainSettings())


# --- on disk ---


def test_settings_survive_a_model_folder() -> None:
    settings = replace(TrainSettings(), size=32, images=1000, minutes=None, learning_rate=3e-4, grey=True)
    assert settings_from_dict(json.loads(json.dumps(asdict(settings)))) == settings


def test_recorded_settings_of_the_wrong_type_are_named_as_damage() -> None:
    with pytest.raises(CaptionlessError, match="recorded settings are damaged"):
        settings_from_dict({"size": "large"})


def test_settings_of_another_version_are_read_as_far_as_they_are_known() -> None:
    assert settings_from_dict({"size": 32, "colour_jitter": 0.1}) == TrainSettings(size=32)
