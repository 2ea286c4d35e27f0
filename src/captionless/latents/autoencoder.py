"""Find, load and run an autoencoder of diffusers: ``AutoencoderTiny`` (TAESD) or ``AutoencoderKL``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captionless.device import to_device
from captionless.encoders.hub import ModelKind, find_encoder_folder, weight_files
from captionless.encoders.loading import check_files, require_complete
from captionless.encoders.model_errors import foreign, loading_errors, read_settings
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.links import is_publishable
from captionless.progress import Progress
from captionless.tensor_files import content_digest, read_tensors

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
CLASSES = ("AutoencoderTiny", "AutoencoderKL")
KIND = ModelKind(
    "autoencoder",
    "autoencoder",
    (),
    "Use the hub id of an autoencoder of diffusers, such as madebyollin/taesd, or a local folder with its files "
    "(`autoencoder=FOLDER`; `captionless autoencoder` trains one).",
    weights=WEIGHTS,
    beside=("LICENSE*", "README.md"),
)
PIXELS = 2**20
"""Pixels of the images in one call of a network; those of a larger image are decoded in tiles."""
TILE, MARGIN = 64, 24
"""Side of a tile, and what is decoded around it and cut off, in positions of latents. The decoder of TAESD looks 20
positions far, so that its tiles have no seams; an ``AutoencoderKL`` normalises over the whole image, and so over each
tile, whose seams are faint."""


@dataclass(eq=False)
class Autoencoder:
    """An autoencoder for images in [-1, 1]; it runs in float32 on the device of its input."""

    name: str  # hub id or absolute path
    folder: Path
    digest: str  # of weights and config
    network: Any
    image_channels: int
    channels: int  # of the latents
    factor: int  # by which the sides of latents are smaller

    def check_grey(self, grey: bool) -> None:
        """Raise unless this autoencoder is for images with the channels of grey images, or of those in colour."""
        if self.image_channels != (channels := 1 if grey else 3):
            raise CaptionlessError(
                f"the autoencoder {self.name} is for images of {self.image_channels} channels, but with `grey={grey}` "
                f"they have {channels}. Change `grey`, or use another autoencoder.",
                parameter="grey",
                code="conflicting_settings",
            )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the latents of images, (n, channels, s / factor, s / factor)."""
        return self._in_batches(self._encode, images, images[0, 0].numel())

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the images of latents, in about [-1, 1]."""
        pixels = latents[0, 0].numel() * self.factor**2
        return self._in_batches(self._decode if pixels <= PIXELS else self._decode_tiles, latents, pixels)

    def _in_batches(self, run: Callable[[Tensor], Tensor], inputs: Tensor, pixels: int) -> Tensor:
        if next(self.network.parameters()).device != inputs.device:
            self.network = to_device(self.network, inputs.device)
        with torch.autocast(inputs.device.type, enabled=False):
            return torch.cat([run(part) for part in torch.split(inputs.float(), max(1, PIXELS // pixels))])

    def _encode(self, images: Tensor) -> Tensor:
        return _latents(self.network.encode(images))

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.network.decode(latents).sample
        return images

    def _decode_tiles(self, latents: Tensor) -> Tensor:
        rows = []
        for top, above, below in _tiles(latents.shape[2]):
            row = []
            for left, before, behind in _tiles(latents.shape[3]):
                part = self._decode(latents[:, :, above:below, before:behind])
                y, x, side = (self.factor * each for each in (top - above, left - before, TILE))
                row.append(part[:, :, y : y + side, x : x + side])
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2)


def _latents(found: Any) -> Tensor:
    """Return the latents in what a network of diffusers returns."""
    latents: Tensor = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
    return latents


def _tiles(side: int) -> Iterator[tuple[int, int, int]]:
    """Yield where tiles begin, and where what is decoded for them begins and ends."""
    for start in range(0, side, TILE):
        yield start, max(0, start - MARGIN), start + TILE + MARGIN


def load_autoencoder(name: str | Path, progress: Progress | None = None, *, advice: str = KIND.advice) -> Autoencoder:
    """Load an autoencoder from a folder or, by its id, from the Hugging Face Hub; safetensors only.

    Args:
        name: the folder or the id.
        progress: receives a message before a download.
        advice: one sentence on what to do if there is none.

    Raises:
        CaptionlessError: diffusers is not installed, or there is no such autoencoder, or it is damaged.
    """
    folder = find_encoder_folder(str(name), replace(KIND, advice=advice), progress)
    stamps = tuple(path.stat().st_mtime_ns for path in (folder / CONFIG, *weight_files(folder, KIND)))
    return _load(str(folder) if Path(name).expanduser().is_dir() else str(name), folder, stamps)


def import_diffusers() -> Any:
    """Return the package diffusers, or raise a `CaptionlessError` that names the extra."""
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise CaptionlessError(
            "autoencoders need a package that is not installed (diffusers). Install it: "
            "pip install 'captionless[latents]'",
            code="missing_package",
        ) from error
    return diffusers


@lru_cache(maxsize=4)
def _load(name: str, folder: Path, stamps: tuple[int, ...]) -> Autoencoder:
    diffusers = import_diffusers()
    with loading_errors(name, KIND, folder):
        check_files(folder)
        config = read_settings(folder / CONFIG)
        kind = config.get("_class_name")
        if kind not in CLASSES:
            raise CaptionlessError(f"the autoencoder {name} is of class {kind}, not {' or '.join(CLASSES)}.")
        about = {"class": kind} | {key: value for key, value in config.items() if not key.startswith("_")}
        digest = content_digest(_stored(folder), about)
        with foreign():
            network, report = getattr(diffusers, kind).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32, output_loading_info=True
            )
        require_complete(name, KIND, report["missing_keys"])
        network = network.eval().requires_grad_(False)
        with foreign(), torch.no_grad():
            image_channels = int(config["in_channels"])
            found = network.encode(torch.zeros(1, image_channels, 64, 64))
        _, channels, side, _ = _latents(found).shape
    return Autoencoder(name, folder, digest, network, image_channels, channels, 64 // side)


def _stored(folder: Path) -> dict[str, Tensor]:
    return {name: one for path in weight_files(folder, KIND) for name, one in read_tensors(path).items()}


def copy_autoencoder(source: Path, target: Path) -> None:
    """Copy the files of an autoencoder, with its licence and its card; the config last, as it makes the copy one."""
    beside = [path for pattern in KIND.beside for path in sorted(source.glob(pattern)) if is_publishable(path)]
    for path in [*weight_files(source, KIND), *beside, source / CONFIG]:
        with atomic_write(target / path.name) as temporary:
            shutil.copyfile(path, temporary)
