"""Load and copy model folders, which have this layout:

    config.json            denoiser architecture, schedule, encoder (name, content hash) and training record
    model.safetensors      the averaged weights, used for sampling
    bank.safetensors       embedding bank: image vectors of training images, used by the bridge from text; absent in a
                           class-conditional model
    pictures.csv           content hash, name and role (train, held out, copy) of every image
    README.md CREDITS.csv  the model card, and the authors of the images
    encoder/               the encoder, if it was learned from the names of the images
    autoencoder/           the autoencoder whose latents are denoised, if it is included, with its licence
    samples/               sample grids drawn during training
    training/              the training state for --resume; can be deleted once training is complete
    base/                  only in a super-resolution stage: the complete folder of the base model (with the bank)

Every file is replaced atomically, so a crash leaves the last complete checkpoint intact. Tensor files carry their own
digest and the id of the model (``captionless.tensor_files``): any mixture of the files of one training is a model, and
a file that is damaged or from another training is refused.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.config import CONFIG, ModelConfig, base_folder, load_config, model_folder
from captionless.checkpoints.image_list import IMAGE_LIST, TRAIN, read_image_list
from captionless.checkpoints.old_formats import renamed_layers
from captionless.checkpoints.quantisation import restored
from captionless.conditioning.bridge import BridgeData
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.latents.autoencoder import copy_autoencoder
from captionless.latents.space import FOLDER, Space, open_space
from captionless.links import is_publishable
from captionless.models.unet import Denoiser
from captionless.tensor_files import check_finite, read_tensors

WEIGHTS, STATE = "model.safetensors", "training/state.safetensors"
BANK = "bank.safetensors"
BANK_ROWS = "rows"
"""In a bank of a part of the training images: the place of each vector's image among those of the image list."""
TOLERANCE = 0.01
"""Largest error of the length of a unit vector; that of vectors in 16 bits is a tenth of it."""
MODEL_FILES = (WEIGHTS, BANK, IMAGE_LIST, "README.md", "CREDITS.csv", "CREDITS-begun-from.csv", CONFIG)
"""What sampling needs, and its documentation; the config is last, because it makes a folder a model."""


@dataclass(frozen=True)
class Model:
    """A model loaded into memory."""

    name: str  # name or path, as passed by the caller
    config: ModelConfig
    denoiser: Denoiser  # in evaluation mode, float32
    bank: Tensor  # unit image vectors of training images, (m, d); (0, d) in a class-conditional model
    base: Model | None = None  # the model whose images are upsampled, for a super-resolution stage
    inherited: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # banks of the models it started from, (k, d)

    @property
    def space(self) -> Space:
        """What the denoiser denoises: pixels, or the latents of an autoencoder, which this loads."""
        return open_space(self.config.autoencoder, model_folder(self.name))

    @property
    def bridge_data(self) -> BridgeData:
        """The data required by the bridge from text vectors to conditions."""
        self.config.require_encoder(self.name)  # raises if the model is class-conditional
        return BridgeData(torch.cat([self.bank, self.inherited]) if len(self.inherited) else self.bank)


def load_model(name: str | Path) -> Model:
    """Load a model, including the base model of a super-resolution stage; pickles are never read.

    Raises:
        CaptionlessError: as in ``load_config``, or the weights are missing, damaged or do not match the config.
    """
    config = load_config(name)
    folder = model_folder(name)
    with torch.device("meta"):  # no memory, and no random weights, for tensors that are replaced
        denoiser = Denoiser(config.denoiser)
    _load_weights(denoiser, read_tensors(folder / WEIGHTS, config.id), folder / WEIGHTS)
    base = _load_base(folder, config)
    bank, inherited = (base.bank, base.inherited) if base else read_bank(folder, config)
    return Model(str(name), config, denoiser.eval().requires_grad_(False), bank, base, inherited)


def _load_base(folder: Path, config: ModelConfig) -> Model | None:
    if config.base_size is None:
        return None
    base = load_model(base_folder(folder))
    fits = base.config.size == config.base_size and base.config.image_channels == config.image_channels
    fits = fits and config.base_id in ("", base.config.id)
    if not fits or base.config.condition_space != config.condition_space:
        raise CaptionlessError(
            f"{base_folder(folder)} is not the base model that {folder} was trained with. Restore it, or train again."
        )
    return base


def read_bank(folder: Path, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return the vectors of the model's own training images, and those inherited from the models it started from."""
    none = torch.empty(0, config.condition_width)
    if config.encoder is None:
        return none, none
    tensors = read_tensors(folder / BANK, config.id)
    bank, inherited = tensors.get("vectors", none), tensors.get("inherited", none)
    if not len(bank) or any(one.ndim != 2 or one.shape[1] != config.encoder.width for one in (bank, inherited)):
        raise CaptionlessError(f"{folder / BANK} does not match {folder / CONFIG}. Restore it, or train again.")
    bank, inherited = bank.float(), inherited.float()
    if not all(bool(((one.norm(dim=1) - 1).abs() < TOLERANCE).all()) for one in (bank, inherited)):
        raise CaptionlessError(f"{folder / BANK} holds vectors that are no unit vectors. Restore it, or train again.")
    return bank, inherited


def bank_images(folder: Path, config: ModelConfig) -> list[tuple[str, str]]:
    """Return name and content hash of the training image of each vector in the bank; empty if they are not recorded."""
    if not (folder / BANK).is_file():
        return []
    tensors = read_tensors(folder / BANK, config.id)
    trained = [(name, digest) for name, digest, role in read_image_list(folder) if role == TRAIN]
    rows = tensors.get(BANK_ROWS, torch.arange(len(trained))).tolist()
    return [trained[row] for row in rows] if len(rows) == len(tensors["vectors"]) else []


def copy_model(source: Path, target: Path) -> None:
    """Copy the files of a model that are needed for sampling, and its documentation."""
    for name in MODEL_FILES:
        if is_publishable(source / name):
            with atomic_write(target / name) as path:
                shutil.copyfile(source / name, path)
    if (source / FOLDER).is_dir():
        copy_autoencoder(source / FOLDER, target / FOLDER)


def _load_weights(denoiser: Denoiser, tensors: dict[str, Tensor], path: Path) -> None:
    """Load stored weights (of any float type, or 8-bit) into ``denoiser``; all names and shapes must match."""
    try:
        stored = {renamed_layers(name): tensor for name, tensor in tensors.items()}
        weights = restored(stored)
        check_finite(weights, f"{path} is damaged")  # in float32, which holds less than float64, or bytes with a scale
        denoiser.load_state_dict(weights, assign=True)
    except (RuntimeError, IndexError) as error:
        raise CaptionlessError(
            f"the weights in {path} do not match the config.json of the model. Restore both files from the same model."
        ) from error
