"""The seam between images and what is denoised.

``Space`` is that of pixels, and changes nothing. A ``LatentSpace`` denoises the latents of an autoencoder (latent
diffusion, Rombach et al., arXiv:2112.10752), centred and scaled so that they lie in [-1, 1] as pixels do. Who trains,
samples or edits with a space does not ask which of the two it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionless.config.training import TrainConfig
from captionless.data.arrays import normalise
from captionless.data.cache import cache_folder, mapped_array, trim_cache
from captionless.errors import CaptionlessError
from captionless.latents.autoencoder import CONFIG, Autoencoder, copy_autoencoder, load_autoencoder

FOLDER = "autoencoder"
"""Sub-folder of a model with a copy of its autoencoder."""
DEVIATIONS = 3.0
"""Standard deviations of latents that [-1, 1] holds; TAESD limits its latents likewise."""
SIDE = 32
"""Side of latents above which they are scaled down. With ``x0`` divided by ``k``, the log-SNR is lower by ``2 log k``
at every time, which is the shift of the noise schedule for ``k`` times the side (simple diffusion, arXiv:2301.11093,
eq. 3 and 4; that scaling is shifting: arXiv:2301.10972, section 2.2)."""
MEASURED = 1_024
"""Images on which the mean and the standard deviation of latents are measured."""
BATCH = 16

Advance = Callable[[str, int, int], None]
Agree = Callable[[float], float]


@dataclass(frozen=True)
class LatentReference:
    """What ``config.json`` records of the autoencoder: ``x0 = (latents - mean) / scale``, channel by channel."""

    name: str  # hub id, or the path where it was in training
    digest: str
    image_channels: int
    channels: int
    factor: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]


class Space:
    """Denoise the pixels of images as they are."""

    factor = 1
    """Pixels per position of what is denoised, along each side."""
    crops = True
    """Whether what is stored for training can be cropped."""

    @property
    def reference(self) -> LatentReference | None:
        """What ``config.json`` records."""
        return None

    def channels(self, image_channels: int) -> int:
        """Return the number of channels that are denoised, given that of the images."""
        return image_channels

    def check(self, config: TrainConfig) -> None:
        """Raise unless a training with these settings can be one in this space."""

    def fitted(self, pixels: Tensor, device: torch.device, agree: Agree = float) -> Space:
        """Return the space with what is to be measured on training images, uint8 (n, channels, size, size).

        Processes that train together call this at the same time. What they measure may differ in the last digits, and
        ``agree`` makes one value of the values of all.
        """
        return self

    def stored(self, pixels: Tensor, device: torch.device, flip: bool, advance: Advance) -> Tensor:
        """Return what training reads in place of images, in [0, 255]; with ``flip`` that of the
        mirrored images is appended to the channels, unless it is had by mirroring."""
        return pixels

    def copy(self, folder: Path) -> None:
        """Copy what a model needs besides its own weights into its folder."""

    def encode(self, images: Tensor) -> Tensor:
        """Return ``x0`` of images in [-1, 1], (n, channels, size, size)."""
        return images

    def decode(self, x0: Tensor) -> Tensor:
        """Return the images of ``x0``, in about [-1, 1]."""
        return x0

    def keep(self, images: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        """Restore the pixels of a photograph outside of a mask, if decoding has changed them."""
        return images


PIXELS = Space()


class LatentSpace(Space):
    """Denoise the latents of an autoencoder.

    Args:
        autoencoder: the autoencoder.
        mean: what is subtracted from each channel; empty before ``fitted``.
        scale: what each channel is then divided by.
    """

    crops = False

    def __init__(self, autoencoder: Autoencoder, mean: tuple[float, ...] = (), scale: tuple[float, ...] = ()) -> None:
        self.autoencoder, self.mean, self.scale = autoencoder, mean, scale
        self.factor = autoencoder.factor

    @property
    def reference(self) -> LatentReference:
        """What ``config.json`` records."""
        one = self.autoencoder
        facts = (one.digest, one.image_channels, one.channels, one.factor)
        return LatentReference(one.name, *facts, self.mean, self.scale)

    def channels(self, image_channels: int) -> int:
        """Return the number of channels of the latents."""
        return self.autoencoder.channels

    def check(self, config: TrainConfig) -> None:
        """Refuse what latents do not allow: crops, and images with other channels."""
        if config.crop < 1:
            raise CaptionlessError(
                f"`crop={config.crop}` cannot be used with an autoencoder, because a part of an image's latents, "
                "resized, is not what the autoencoder makes of that part of the image. Leave `crop` out.",
                parameter="crop",
                code="conflicting_settings",
            )
        self.autoencoder.check_grey(config.grey)

    def fitted(self, pixels: Tensor, device: torch.device, agree: Agree = float) -> LatentSpace:
        """Measure mean and standard deviation of each channel; a space that has them is returned as it is."""
        if self.mean:
            return self
        chosen = torch.linspace(0, len(pixels) - 1, min(len(pixels), MEASURED)).round().long()
        parts = [
            self.autoencoder.encode(normalise(pixels[rows].to(device))).cpu() for rows in torch.split(chosen, BATCH)
        ]
        latents = torch.cat(parts).double()
        spread = DEVIATIONS * max(1.0, latents.shape[3] / SIDE) * latents.std((0, 2, 3)).clamp(min=1e-4)
        mean, scale = (tuple(agree(float(one)) for one in each) for each in (latents.mean((0, 2, 3)), spread))
        return LatentSpace(self.autoencoder, mean, scale)

    def stored(self, pixels: Tensor, device: torch.device, flip: bool, advance: Advance) -> Tensor:
        """Return the latents of images, and of mirrored images with ``flip``; they are kept in the cache.

        They are float16: rounded to whole numbers, as pixels are, those that are scaled down would lose a bit for each
        doubling of the side. The error is below 0.1% of their standard deviation up to a side of 32, and doubles with
        the side.
        """
        count, side = len(pixels), pixels.shape[3] // self.factor

        def rows() -> Iterator[NDArray[np.float16]]:
            for start in range(0, count, BATCH):
                images = normalise(pixels[start : start + BATCH].to(device))
                views = [images, images.flip(3)] if flip else [images]
                x0 = torch.cat([self.encode(view) for view in views], 1).clamp(-1, 1)
                yield from ((x0 + 1) * 127.5).half().cpu().numpy()
                advance("Encoding images", min(start + BATCH, count), count)

        contents = (hashlib.sha256(image.contiguous().numpy().data).hexdigest() for image in pixels)
        key = [self.autoencoder.digest, str(self.mean), str(self.scale), *contents]
        shape = (count, self.autoencoder.channels * (1 + flip), side, side)
        latents = torch.from_numpy(mapped_array(cache_folder(), key, shape, np.float16, rows))
        trim_cache(cache_folder())
        return latents

    def copy(self, folder: Path) -> None:
        """Copy the autoencoder into a model folder, with its licence."""
        if not (folder / FOLDER / CONFIG).is_file():
            copy_autoencoder(self.autoencoder.folder, folder / FOLDER)

    def encode(self, images: Tensor) -> Tensor:
        """Return the scaled latents of images."""
        mean, scale = self._per_channel(images)
        return (self.autoencoder.encode(images) - mean) / scale

    def decode(self, x0: Tensor) -> Tensor:
        """Return the images of scaled latents."""
        mean, scale = self._per_channel(x0)
        return self.autoencoder.decode(x0.float() * scale + mean)

    def keep(self, images: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        """Restore the pixels of a photograph outside of a mask."""
        return mask * images + (1 - mask) * known

    def _per_channel(self, like: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.tensor(each, device=like.device).reshape(-1, 1, 1) for each in (self.mean, self.scale))


def open_space(reference: LatentReference | None, folder: Path, place: str | Path | None = None) -> Space:
    """Return the space of a model in ``folder``.

    Args:
        reference: what the model records; None for pixels.
        folder: the model folder. A copy of the autoencoder in it is preferred to the recorded place.
        place: where the autoencoder is instead.

    Raises:
        CaptionlessError: the autoencoder cannot be loaded, or is not the one that the model was trained with.
    """
    if reference is None:
        return PIXELS
    if place is None:
        name, remedy = reference.name, f"Copy the files of the original one to {folder / FOLDER}."
        found = load_autoencoder(autoencoder_place(folder, reference), advice=remedy)
    else:
        found, remedy = load_autoencoder(place), "Pass the original one as `autoencoder`."
        name = found.name
    if found.digest != reference.digest:
        raise CaptionlessError(
            f"{found.name} is not the autoencoder that the model in {folder} was trained with: its weights differ. "
            f"{remedy}",
            parameter="autoencoder",
            code="contradicts_model",
        )
    return LatentSpace(replace(found, name=name), reference.mean, reference.scale)


def autoencoder_place(folder: Path, reference: LatentReference) -> str:
    """Return where to load a model's autoencoder from: the model's folder, or the recorded place."""
    return str(folder / FOLDER) if (folder / FOLDER / CONFIG).is_file() else reference.name
