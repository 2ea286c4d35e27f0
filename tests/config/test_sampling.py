"""The contract of captionless.config.sampling: the one source of defaults, which refuses what cannot be."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from captionless.config.sampling import OPTIONS, SAMPLERS, THRESHOLDS, VARIANCES, SamplingConfig
from captionless.diffusion import guidance, samplers
from captionless.errors import CaptionlessError

REFUSED = [
    ({"steps": 0}, "at least 1 sampling step, not 0"),
    ({"batch": 0}, "at least 1 picture, not 0"),
    ({"guidance": math.nan}, "--guidance must be a number from -100 to 100, not nan"),
    ({"guidance": math.inf}, "--guidance must be a number from -100 to 100, not inf"),
    ({"guidance": -101.0}, "--guidance must be a number from -100 to 100, not -101.0"),
    ({"sampler": "euler-maruyama"}, "no sampler 'euler-maruyama'. Choose one of: dpmpp-2m, unipc, "),
    ({"bridge": "bifrost"}, "no bridge 'bifrost'. Choose one of: nearest, mean, none"),
    ({"precision": "fp8"}, "no precision 'fp8'. Choose one of: auto, float32, bf16"),
    ({"spacing": "odd"}, "no spacing 'odd'. Choose one of: even, karras"),
    ({"threshold": "soft"}, "no threshold 'soft'. Choose one of: static, dynamic, none"),
    ({"interval": (0.5, 0.5)}, "--guidance-interval must be two times .* not 0.5,0.5"),
    ({"interval": (-0.1, 0.5)}, "--guidance-interval"),
    ({"interval": (0.2, 1.1)}, "--guidance-interval"),
    ({"interval": (math.nan, 1.0)}, "--guidance-interval"),
    ({"rescale": 1.5}, r"--guidance-rescale must lie in \[0, 1\], not 1.5"),
    ({"rescale": math.nan}, "--guidance-rescale"),
    ({"eta": 1.0}, "the sampler dpmpp-2m has no --eta. .* choose --sampler ddim or"),
    ({"churn": 1.0}, "the sampler dpmpp-2m has no --churn. .* choose --sampler heun or euler"),
    ({"variance": "upper"}, "the sampler dpmpp-2m has no --variance. .* choose --sampler ddpm"),
    ({"sampler": "ddpm", "variance": "middle"}, "no variance 'middle'. Choose one of: lower, upper"),
    ({"sampler": "ddim", "eta": 1.5}, "--eta must lie from 0 to 1, not 1.5"),
    ({"sampler": "ddim", "eta": math.nan}, "--eta must lie from 0 to 1, not nan"),
    ({"sampler": "heun", "churn": -1.0}, "--churn must lie from 0 to 100, not -1.0"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED, ids=[str(wrong) for wrong, _ in REFUSED])
def test_impossible_ways_of_sampling_are_refused_before_any_work(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptionlessError, match=message):
        SamplingConfig(**wrong)


def test_an_option_is_taken_by_just_the_samplers_that_know_it() -> None:
    """The table of options says what the signatures of the samplers say."""
    for name in SAMPLERS:
        parameters = list(inspect.signature(samplers.SAMPLERS[name]).parameters)
        assert parameters == ["x", "reverse", *(option for option in OPTIONS if name in OPTIONS[option])]


def test_the_names_are_those_of_the_modules_that_do_the_work() -> None:
    assert set(SAMPLERS) == set(samplers.SAMPLERS)
    assert THRESHOLDS == guidance.THRESHOLDS
    assert VARIANCES == samplers.VARIANCES


def test_options_that_were_not_chosen_are_left_to_the_sampler() -> None:
    assert SamplingConfig(sampler="ddim").options == {}
    assert SamplingConfig(sampler="ddim", eta=0.0).options == {"eta": 0.0}
