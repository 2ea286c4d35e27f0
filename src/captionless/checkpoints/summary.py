"""Summarise a model for its card and for `captionless info`."""

from __future__ import annotations

from captionless.checkpoints.config import ModelConfig, model_folder
from captionless.checkpoints.model import load_model
from captionless.models.unet import Denoiser, parameter_count


def model_facts(config: ModelConfig, denoiser: Denoiser) -> dict[str, str]:
    """Return facts about a model and its training, by label."""
    training = config.training
    if config.encoder:
        condition = {"Encoder": f"{config.encoder.name} (content hash {config.encoder.digest[:12]})"}
    else:
        counts = training.class_images
        named = [f"{name} ({counts[name]:,})" if name in counts else name for name in config.classes]
        condition = {"Classes": ", ".join(named)}
    latents, autoencoder = config.autoencoder, {}
    if latents:
        shape = f"{latents.channels} x {config.side} x {config.side}"
        text = f"{latents.name} (content hash {latents.digest[:12]}); its latents, {shape}, are denoised"
        autoencoder = {"Autoencoder": text}
    kept = "" if training.kept_images is None else f"; the weights are those after {training.kept_images:,} images"
    return {
        "Images": f"{config.size} x {config.size} pixels, {'grey' if config.image_channels == 1 else 'colour'}",
        "Denoiser": f"U-Net, {parameter_count(denoiser) / 1e6:.1f} million weights, {config.prediction}-prediction, "
        f"{training.settings.get('schedule', 'cosine')} schedule",
        **autoencoder,
        **condition,
        "Trained on": f"{training.train_images:,} images of the folder {training.folder} ({training.held_out:,} more "
        "held out)",
        "Training": f"{training.images_seen:,} images seen in {training.minutes:.0f} min, initialised from "
        f"{training.initialised_from or 'random weights'}{kept}",
    }


def model_summary(name: str) -> list[tuple[str, str]]:
    """Return the summary of a model that `captionless info` prints, as (label, text) pairs.

    Args:
        name: a model folder, or ``bundled``.

    Raises:
        CaptionlessError: the model does not exist or cannot be read.
    """
    model = load_model(name)
    training = model.config.training
    facts = model_facts(model.config, model.denoiser)
    if model.base:
        base = model_facts(model.base.config, model.base.denoiser)
        facts["Base model"] = "; ".join(base[label] for label in ("Images", "Denoiser", "Training"))
    if training.encoder_reason or training.labels:
        facts["Conditions from"] = training.encoder_reason or training.labels
    given = {setting: value for setting, value in training.settings.items() if value is not None}
    facts["Settings"] = ", ".join(f"{setting} {value}" for setting, value in given.items())
    return [("Model", str(model_folder(name))), *facts.items(), ("Loss", str(training.loss))]
