"""Write a model folder for the Hugging Face Hub: the model as it is, without private paths, and a card for its page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from captionless.checkpoints.card import CARD, example_request
from captionless.checkpoints.config import (
    BASE,
    LEARNED,
    base_folder,
    encoder_place,
    load_config,
    model_folder,
    save_config,
)
from captionless.checkpoints.hub import FILES
from captionless.checkpoints.model import copy_model
from captionless.config.export import ExportRequest
from captionless.exports.card import public_text, write_card
from captionless.exports.names import public_config
from captionless.files import atomic_write
from captionless.generation.generator import Generator
from captionless.latents.autoencoder import copy_autoencoder
from captionless.latents.space import FOLDER, autoencoder_place
from captionless.links import is_publishable
from captionless.paths import quoted
from captionless.progress import Progress
from captionless.text_files import read_text

INSTALL = "pip install -c constraints.txt .  # in a clone of captionless"


def export_hub(generator: Generator, request: ExportRequest, folder: Path, progress: Progress) -> None:
    """Write the files of a repository that `captionless generate --model user/repo` loads."""
    name = quoted(request.push or (request.out or folder).name)
    use = f"captionless generate --model {name} {example_request(generator.model.config)}"
    _copy(model_folder(request.model), folder, f"    {use}")
    write_card(generator, request, folder, f"```shell\n{INSTALL}\n{use}\n```", progress)


def _copy(source: Path, target: Path, use: str) -> None:
    """Copy a model with its base model, and with an encoder that is in a folder."""
    copy_model(source, target)
    config = load_config(source)
    if config.autoencoder and os.path.isdir(place := autoencoder_place(source, config.autoencoder)):
        copy_autoencoder(Path(place), target / FOLDER)
    save_config(target, public_config(config))
    if (target / CARD).is_file():
        with atomic_write(target / CARD) as path:
            path.write_text(
                public_text(read_text(target / CARD, "replace"), config, use), encoding="utf-8", newline="\n"
            )
    if config.base_size is not None:
        _copy(base_folder(source), target / BASE, f"{use} --size {config.base_size}")  # it has the encoder
    elif config.encoder and os.path.isdir(place := encoder_place(source, config.encoder)):
        copy_files(Path(place), target / LEARNED)


def copy_files(source: Path, target: Path) -> None:
    """Copy those files of an encoder that are loaded from the Hub."""
    for path in (path for pattern in FILES for path in sorted(source.glob(pattern)) if is_publishable(path)):
        with atomic_write(target / path.name) as temporary:
            shutil.copyfile(path, temporary)
