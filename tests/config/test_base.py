"""The contract of captionless.config.base: settings are checked when given, documented once, and generated from."""

import subprocess
import sys
from pathlib import Path

import pytest

from captionless.config.base import Config
from captionless.config.evaluation import EvaluationConfig
from captionless.config.fields import field_default, field_range
from captionless.config.sampling import SamplingConfig
from captionless.config.training import TrainConfig
from captionless.errors import CaptionlessError

ROOT = Path(__file__).parents[2]


def test_an_unknown_setting_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(CaptionlessError, match=r"no setting `widht`\. Did you mean `width`") as error:
        TrainConfig(widht=64)
    assert (error.value.parameter, error.value.value, error.value.code) == ("widht", 64, "unknown_setting")


def test_a_config_cannot_change_but_is_replaced_by_a_checked_one() -> None:
    config = SamplingConfig(steps=3)
    with pytest.raises(Exception, match="frozen"):
        config.steps = 4
    changed = config.replace(guidance=1.0)
    assert changed.given() == {"guidance": 1.0, "steps": 3}
    with pytest.raises(CaptionlessError, match="`steps`"):
        config.replace(steps=0)


@pytest.mark.parametrize("config", [TrainConfig, SamplingConfig, EvaluationConfig])
def test_every_setting_says_what_it_does_what_it_allows_and_what_it_is_by_default(config: type[Config]) -> None:
    assert config().given() == {}
    for field in config.model_fields.values():
        assert field.description
        assert field.description.endswith(".")
        assert field_range(field)
        assert field_default(field) != "None"


def test_what_is_generated_from_the_settings_is_not_stale() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "settings.py", "--check"], check=True)
