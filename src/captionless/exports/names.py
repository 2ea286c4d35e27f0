"""Name the folders that a model came from without saying where they were, because exports are published."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from captionless.checkpoints.config import ModelConfig
from captionless.checkpoints.hub import is_downloaded

_RECORDED = ("folder", "initialised_from", "base_model", "labels")


def folder_names(config: ModelConfig) -> dict[str, str]:
    """Map each path that a model records to the last part of it; ids of models on the Hub stay."""
    places = [getattr(config.training, field) for field in _RECORDED]
    if config.encoder and os.path.isdir(os.path.expanduser(config.encoder.name)):
        places.append(config.encoder.name)
    if config.autoencoder and os.path.isdir(config.autoencoder.name):
        places.append(config.autoencoder.name)
    paths = [place for place in places if place and Path(place).name not in ("", place) and not is_downloaded(place)]
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
