"""Look up the training images of a model and of the models it was initialised from, as recorded in their folders."""

from __future__ import annotations

from pathlib import Path

from captionless.checkpoints.config import ModelConfig, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import COPY, TRAIN, read_image_list
from captionless.errors import CaptionlessError


def lineage(model: str | Path) -> list[tuple[str, ModelConfig | None]]:
    """Return the names and configs of a model and, after it, of the models it was initialised from.

    The base model of a super-resolution stage is included. The config is None if the model no longer exists.
    """
    found: list[tuple[str, ModelConfig | None]] = []
    waiting, visited = [str(model)], set[Path]()
    while waiting:
        name = waiting.pop()
        folder = model_folder(name).resolve()
        if folder in visited:
            continue
        visited.add(folder)
        try:
            config = load_config(folder)
        except CaptionlessError:
            config = None
        found.append((name, config))
        if config and config.training.initialised_from:
            waiting.append(config.training.initialised_from)
        if config and config.base_size:
            waiting.append(str(base_folder(folder)))
    return found


def seen_digests(model: str | Path) -> tuple[set[str], tuple[str, ...]]:
    """Return the content hashes of all images that a model and the models it was initialised from were trained on.

    Returns:
        The hashes, and the names of the models that do not record their training images or no longer exist.
    """
    rows = {name: read_image_list(model_folder(name)) for name, _ in lineage(model)}
    seen = {digest for known in rows.values() for _, digest, role in known if role in (TRAIN, COPY)}
    return seen, tuple(name for name, known in rows.items() if not known)


def training_images(model: str | Path) -> dict[str, str]:
    """Map the content hash of each of the model's own training files to the content hash of its canonical image.

    The hashes differ if a file is a copy of an image with different bytes. The base model of a super-resolution stage
    counts as part of the model.
    """
    found: dict[str, str] = {}
    for folder in (base_folder(model_folder(model)), model_folder(model)):
        rows = read_image_list(folder)
        trained = {name: digest for name, digest, role in rows if role == TRAIN}
        found |= {digest: digest for digest in trained.values()}
        found |= {digest: trained.get(name, digest) for name, digest, role in rows if role == COPY}
    return found


def lineage_encoders(model: str | Path) -> set[str]:
    """Return the content hashes of the encoders of a model and of the models it was initialised from."""
    return {config.encoder.digest for _, config in lineage(model) if config and config.encoder}


def trained_with_flips(config: ModelConfig) -> bool:
    """Return whether the model was trained with horizontal flips, so that flips preserve the content of an image."""
    return bool(config.training.settings.get("flip", True))
