"""The public verbs list every setting as a keyword, for people, editors and type checkers alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import captionless
import tiny
from captionless.config.evaluation import EvaluationConfig
from captionless.config.keyword_types import EvaluateKeywords, SamplingKeywords, TrainKeywords
from captionless.config.sampling import SamplingConfig
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig
from captionless.errors import CaptionlessError

VERBS: list[tuple[Callable[..., Any], list[Any], Any]] = [
    (captionless.Generator.generate, [SamplingConfig], SamplingKeywords),
    (captionless.Generator.stream, [SamplingConfig], SamplingKeywords),
    (captionless.evaluate, [EvaluationConfig, SamplingConfig], EvaluateKeywords),
    (captionless.train, [TrainRequest, TrainConfig], TrainKeywords),
]


@pytest.mark.parametrize(("verb", "configs", "options"), VERBS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_verb_lists_and_explains_every_setting(verb: Callable[..., Any], configs: list[Any], options: Any) -> None:
    signature, text = inspect.signature(verb), inspect.getdoc(verb) or ""
    assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())
    for config in configs:
        for name, field in config.model_fields.items():
            if field.is_required():  # an ordinary parameter
                continue
            assert signature.parameters[name].default == field.default
            assert f"\n    {name}: {field.description.split()[0]}" in text
            assert name in options.__annotations__
    assert f"Unpack[{options.__name__}]" in verb.__annotations__.values()


def test_settings_are_keywords_of_generate_on_top_of_a_config() -> None:
    generator = captionless.Generator(tiny.class_model(), device="cpu")
    (image,) = generator.generate("rose", steps=2, sampling=SamplingConfig(steps=3, guidance=1.0, precision="float32"))
    assert (image.config.steps, image.config.guidance) == (2, 1.0)
    with pytest.raises(CaptionlessError) as error:
        generator.generate("rose", step=2)  # type: ignore[call-arg]
    assert (error.value.parameter, error.value.code) == ("step", "unknown_setting")
