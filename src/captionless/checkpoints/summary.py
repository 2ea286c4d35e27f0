"""Describe a model folder in a few lines."""

from __future__ import annotations

from captionless.checkpoints.card import class_counts
from captionless.checkpoints.config import ModelConfig, model_folder
from captionless.checkpoints.model import Model, load_model
from captionless.models.unet import parameter_count


def model_summary(name: str) -> list[tuple[str, str]]:
    """Return what a model is and how it was trained, as pairs of label and text.

    Args:
        name: a model folder, or ``bundled``.

    Raises:
        CaptionlessError: there is no such model, or it cannot be read.
    """
    model = load_model(name)
    config, training = model.config, model.config.training
    given = {k: v for k, v in training.settings.items() if v is not None}
    return [
        ("model", str(model_folder(name))),
        ("images", f"{config.size} x {config.size}, {'grey' if config.denoiser.channels == 1 else 'colour'}"),
        ("denoiser", f"{parameter_count(model.denoiser) / 1e6:.1f} million weights, width {config.denoiser.width}"),
        *_base_model(model),
        *_conditions(config),
        ("trained on", f"{training.folder}: {training.train_images:,} images"),
        ("held out", f"{training.held_out:,}"),
        ("initialised from", training.initialised_from or "random weights"),
        ("seen", f"{training.images_seen:,} images in {training.minutes:.1f} minutes"),
        ("loss", str(training.loss)),
        ("settings", ", ".join(f"{k} {v}" for k, v in given.items())),
    ]


def _base_model(model: Model) -> list[tuple[str, str]]:
    if model.base is None:
        return []
    config, training = model.base.config, model.base.config.training
    facts = [
        f"images of {config.size} x {config.size}",
        f"{parameter_count(model.base.denoiser) / 1e6:.1f} million weights, width {config.denoiser.width}",
        f"{training.images_seen:,} images seen in {training.minutes:.1f} minutes",
    ]
    return [("base model", "; ".join(facts))]


def _conditions(config: ModelConfig) -> list[tuple[str, str]]:
    encoder, training = config.encoder, config.training
    if encoder is None:
        return [("classes", class_counts(config)), ("labels from", training.labels or "?")]
    return [
        ("encoder", f"{encoder.name}, {encoder.width} features, hash {encoder.digest[:12]}"),
        ("chosen", training.encoder_reason or "?"),
    ]
