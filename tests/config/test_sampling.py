"""The contract of captionless.config.sampling: the one source of defaults, which refuses what cannot be."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from captionless.config.fields import field_choices
from captionless.config.sampling import OPTIONS, SamplingConfig
from captionless.diffusion import samplers
from captionless.errors import CaptionlessError

REFUSED = [
    ({"steps": 0}, "steps", "Try `steps=20`."),
    ({"batch": 0}, "batch", "an integer of at least 1"),
    ({"guidance": math.nan}, "guidance", "a number of at least -100 and at most 100, not nan"),
    ({"guidance": math.inf}, "guidance", "not inf"),
    ({"guidance": -101.0}, "guidance", "not -101.0"),
    ({"sampler": "euler-maruyama"}, "sampler", "one of dpmpp-2m, unipc, "),
    ({"bridge": "bifrost"}, "bridge", "one of nearest, mean, none, not bifrost."),
    ({"precision": "fp8"}, "precision", "one of auto, float32, bf16"),
    ({"spacing": "odd"}, "spacing", "one of even, karras"),
    ({"threshold": "soft"}, "threshold", "one of static, dynamic, none"),
    ({"guidance_interval": (0.5, 0.5)}, "guidance_interval", "not 0.5,0.5. Try `guidance_interval=0.1,0.9`."),
    ({"guidance_interval": (-0.1, 0.5)}, "guidance_interval", "0 <= low"),
    ({"guidance_interval": (0.2, 1.1)}, "guidance_interval", "high <= 1"),
    ({"guidance_interval": (math.nan, 1.0)}, "guidance_interval", "2 numbers"),
    ({"guidance_interval": (0.1,)}, "guidance_interval", "2 numbers"),
    ({"guidance_levels": (0.0, 1.0)}, "guidance_levels", "0 < low"),
    ({"guidance_rescale": 1.5}, "guidance_rescale", "at least 0 and at most 1, not 1.5. Try `guidance_rescale=0.7`."),
    ({"eta": 1.0}, "eta", "the sampler dpmpp-2m does not accept `eta`"),
    ({"churn": 1.0}, "churn", "choose `sampler=heun` or `sampler=euler`"),
    ({"variance": "upper"}, "variance", "choose `sampler=ddpm`"),
    ({"sampler": "ddpm", "variance": "middle"}, "variance", "one of lower, upper, not middle"),
    ({"sampler": "ddim", "eta": 1.5}, "eta", "at most 1, not 1.5"),
    ({"sampler": "ddim", "eta": math.nan}, "eta", "at most 1, not nan"),
    ({"sampler": "heun", "churn": -1.0}, "churn", "at most 100, not -1.0"),
]


@pytest.mark.parametrize(("wrong", "parameter", "hint"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_impossible_ways_of_sampling_are_refused_before_any_work(
    wrong: dict[str, Any], parameter: str, hint: str
) -> None:
    with pytest.raises(CaptionlessError) as error:
        SamplingConfig(**wrong)
    assert (error.value.parameter, error.value.code) == (parameter, "invalid_setting")
    assert hint in str(error.value)


def test_an_option_is_taken_by_just_the_samplers_that_know_it() -> None:
    """The table of options says what the signatures of the samplers say."""
    for name in samplers.SAMPLERS:
        _, _, *options = inspect.signature(samplers.SAMPLERS[name]).parameters
        assert options == [option for option in OPTIONS if name in OPTIONS[option]]


def test_the_names_are_those_of_the_samplers() -> None:
    assert set(field_choices(SamplingConfig.model_fields["sampler"])) == set(samplers.SAMPLERS)


def test_options_that_were_not_chosen_are_left_to_the_sampler() -> None:
    assert SamplingConfig(sampler="ddim").options == {}
    assert SamplingConfig(sampler="ddim", eta=0.0).options == {"eta": 0.0}
