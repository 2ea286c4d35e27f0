"""Compare the settings of a resumed training of an autoencoder with those that it was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from captionless.checkpoints.model import STATE
from captionless.config.autoencoder import SHAPE, AutoencoderConfig
from captionless.tensor_files import read_about
from captionless.training.start import cannot_resume

FREE_ON_RESUME = {"folder", "out", "plan", "resume", "minutes", "images", "checkpoint_minutes"}
"""Options that may change when a training is resumed."""


def continued(config: AutoencoderConfig) -> AutoencoderConfig:
    """Return the settings of the training in ``config.out``; raise if others are given."""
    about = read_about(config.out / STATE)
    given = config.model_dump(mode="json", include=config.model_fields_set - FREE_ON_RESUME)
    refuse_changes(config.out, about, given)
    recorded = about.get("settings", {})
    started = SHAPE if recorded.get("start_from") else ()
    kept = {name: value for name, value in recorded.items() if name not in started}
    return AutoencoderConfig(**(kept | config.given()))


def refuse_changes(out: Path, about: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise if a setting is not the one that was recorded."""
    recorded = about.get("settings", {})
    if changed := [name for name, value in settings.items() if recorded.get(name) != value]:
        what = " and ".join(f"`{name}` is {settings[name]}, and was {recorded.get(name)}" for name in changed)
        raise cannot_resume(out, what)
