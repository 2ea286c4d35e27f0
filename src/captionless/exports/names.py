"""Name the folders that a model came from without saying where they were, because exports are published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from captionless.checkpoints.config import ModelConfig
from captionless.checkpoints.hub import is_downloaded, is_hub_id

_RECORDED = ("folder", "initialised_from", "base_model", "labels")


def folder_names(config: ModelConfig) -> dict[str, str]:
    """Map each path that a model records to the last part of it; ids of models on the Hub stay."""
    places = [getattr(config.training, field) for field in _RECORDED]
    places = [place for place in places if place and not is_downloaded(place)]
    # What a model was trained with may be gone or on another computer: its name alone says whether it was in a folder.
    places += [one.name for one in (config.encoder, config.autoencoder) if one and not is_hub_id(one.name)]
    paths = [place for place in places if Path(place).name not in ("", place)]
    return {path: Path(path).name for path in sorted(paths, key=len, reverse=True)}


def without_paths(text: str, names: dict[str, str]) -> str:
    """Return a text with paths replaced by names."""
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def public_config(config: ModelConfig) -> ModelConfig:
    """Return a config with names instead of paths."""
    names, record, encoder, latents = folder_names(config), config.training, config.encoder, config.autoencoder
    changed = {field: names.get(getattr(record, field), getattr(record, field)) for field in _RECORDED}
    training = replace(record, encoder_reason=without_paths(record.encoder_reason, names), **changed)
    return replace(
        config,
        training=training,
        encoder=encoder and replace(encoder, name=names.get(encoder.name, encoder.name)),
        autoencoder=latents and replace(latents, name=names.get(latents.name, latents.name)),
    )
