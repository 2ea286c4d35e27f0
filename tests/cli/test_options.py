"""Commands made from configs: names, defaults and errors come from where a setting is defined."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from captionless.cli.console import print_remark, with_flags
from captionless.cli.options import add_command
from captionless.config.base import Config, setting


class Own(Config):
    place: str = setting(..., "A place.", flag="")
    scale: tuple[float, ...] = setting((1.0,), "Several scales.")


class Settings(Config):
    scale: float = setting(1.0, "One scale.")
    high_up: bool = setting(True, "Start high up.")
    sizes: tuple[int, ...] | None = setting(None, "Sizes.")


def test_each_setting_is_an_option_that_reaches_the_first_config_that_has_it() -> None:
    seen: list[Config] = []

    def go(own: Own, settings: Settings) -> None:
        seen.extend([own, settings])

    app = typer.Typer()
    flags = add_command(app, go)
    assert flags == {"scale": "--scale", "high_up": "--high-up/--no-high-up", "sizes": "--sizes"}
    assert CliRunner().invoke(app, ["here", "--scale", "-1,2", "--no-high-up", "--sizes", "none"]).exit_code == 0
    assert seen == [Own(place="here", scale=(-1.0, 2.0)), Settings(high_up=False, sizes=())]
    assert seen[1].given() == {"high_up": False, "sizes": ()}


def test_the_help_names_flags_of_every_command(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    run("embed", "--help")
    text = capsys.readouterr().out
    assert "--vectors" in text  # of `train`
    assert "With --shards" in text


def test_parameters_in_backticks_become_flags() -> None:
    flags = {"hold_out": "--hold-out", "flip": "--flip/--no-flip", "start_from": "--from"}
    message = "`hold_out` is 1. Try `hold_out=0.1`, `flip=False`, `flip=True`; leave `start_from` and `other` out."
    assert with_flags(message, flags) == (
        "--hold-out is 1. Try --hold-out 0.1, --no-flip, --flip; leave --from and `other` out."
    )


def test_remarks_name_flags_and_mistakes_point_to_the_help_of_their_command(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "photos", "--minute", "3") == 2
    assert capsys.readouterr().err.endswith("See captionless train --help.\n")
    assert run("trian") == 2
    assert capsys.readouterr().err.endswith("Did you mean 'train'? See captionless --help.\n")
    print_remark("Continue with `resume=True` and `minutes=3`; `start_from` is known from another command.")
    assert capsys.readouterr().err == "Continue with --resume and --minutes 3; --from is known from another command.\n"
