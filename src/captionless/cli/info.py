"""`captionless info`: what a model folder or a folder of pictures holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionless.cli.console import bar, remarks, show
from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from captionless.checkpoints.config import ModelConfig
    from captionless.checkpoints.model import Model


def info(
    name: Annotated[
        str, typer.Argument(metavar="MODEL|FOLDER", help="A model ('bundled' too) or a folder of pictures.")
    ],
) -> None:
    """Say what a model or a folder of pictures holds."""
    from captionless.checkpoints.config import CONFIG, model_folder

    folder = model_folder(name, fetch=True)
    if not folder.is_dir():
        raise CaptionlessError(f"there is no folder {folder}. Name a model folder, 'bundled' or a folder of pictures.")
    facts = _model(name) if (folder / CONFIG).exists() else _images(folder)
    width = max(len(label) for label, _ in facts)
    for label, value in facts:
        show(f"{label:{width}}  {value}")


def _model(name: str) -> list[tuple[str, str]]:
    from captionless.checkpoints.config import model_folder
    from captionless.checkpoints.model import load_model
    from captionless.models.unet import parameter_count

    model = load_model(name)
    config, training = model.config, model.config.training
    given = {k: v for k, v in training.settings.items() if v is not None}
    # load_config has checked the types of what is formatted here.
    return [
        ("model", str(model_folder(name))),
        ("pictures", f"{config.size} x {config.size}, {'grey' if config.denoiser.channels == 1 else 'colour'}"),
        ("denoiser", f"{parameter_count(model.denoiser) / 1e6:.1f} million weights, width {config.denoiser.width}"),
        *_enlarging(model),
        *_conditions(config),
        ("trained on", f"{training.folder}: {training.train_images:,} images"),
        ("held out", f"{training.held_out:,}"),
        ("initialised from", training.initialised_from or "random weights"),
        ("seen", f"{training.images_seen:,} images in {training.minutes:.1f} minutes"),
        ("loss", str(training.loss)),
        ("settings", ", ".join(f"{k} {v}" for k, v in given.items())),
    ]


def _enlarging(model: Model) -> list[tuple[str, str]]:
    from captionless.models.unet import parameter_count

    if model.base is None:
        return []
    small, training = model.base.config, model.base.config.training
    facts = [
        f"pictures of {small.size} x {small.size}",
        f"{parameter_count(model.base.denoiser) / 1e6:.1f} million weights, width {small.denoiser.width}",
        f"{training.images_seen:,} images seen in {training.minutes:.1f} minutes",
    ]
    return [("enlarges", "; ".join(facts))]


def _conditions(config: ModelConfig) -> list[tuple[str, str]]:
    from captionless.checkpoints.card import class_counts

    encoder, training = config.encoder, config.training
    if encoder is None:
        return [("classes", class_counts(config)), ("labels from", training.labels or "?")]
    return [
        ("encoder", f"{encoder.name}, {encoder.width} features, hash {encoder.digest[:12]}"),
        ("chosen", training.encoder_reason or "?"),
    ]


def _images(folder: Path) -> list[tuple[str, str]]:
    from captionless.data.folder import find_images
    from captionless.data.images import ImageFile, SkippedFile, count_reasons, find_duplicates, read_folder

    files = find_images(folder)
    entries: list[ImageFile | SkippedFile] = []
    with bar() as progress, remarks():
        for entry in progress.track(read_folder(folder, files=files), total=len(files), description="Reading"):
            entries.append(entry)
    pictures = [entry for entry in entries if isinstance(entry, ImageFile)]
    skipped = [entry for entry in entries if isinstance(entry, SkippedFile)]
    folders = sorted({picture.name.rpartition("/")[0] for picture in pictures} - {""})
    copies = find_duplicates(pictures)
    return [
        ("folder", str(folder)),
        ("pictures", f"{len(pictures):,}"),
        ("sub-folders", f"{len(folders):,}" + (f": {', '.join(folders[:8])}" if folders else "")),
        ("identical", f"{sum(map(len, copies)):,} files of {len(copies):,} pictures" if copies else "none"),
        ("skipped", f"{len(skipped):,}"),
        *(("", f"{count:,}: {reason}") for reason, count in count_reasons(skipped).items()),
    ]
