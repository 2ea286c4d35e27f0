"""denoising-diffusion-pytorch: its own ``Trainer``, data loading included, with its defaults (batch 16, Adam, v, EMA).

The package imports a few names of torchvision, which does not load beside a CPU build of PyTorch. A stand-in
provides them.
"""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.peers.peer import Finished, Meter, Request, answer, count, to_uint8


def train(request: Request) -> tuple[Meter, dict[str, int]]:
    """Train with the package's ``Trainer``; its EMA, the last thing it does in a step, tells the meter."""
    from denoising_diffusion_pytorch import Trainer

    trainer = Trainer(
        _diffusion(request),
        request.folder,
        train_batch_size=request.batch,
        train_num_steps=sys.maxsize,
        save_and_sample_every=sys.maxsize,
        calculate_fid=False,
        results_folder=request.work,
        amp=request.precision == "bf16",
        mixed_precision_type="bf16",
    )
    meter = Meter(request, lambda path: torch.save(trainer.ema.ema_model.state_dict(), path))
    update = trainer.ema.update

    def update_and_report() -> None:
        update()
        if meter.step():
            raise Finished

    trainer.ema.update = update_and_report
    try:
        trainer.train()
    except Finished:
        network = _diffusion(request).model
        return meter, count(network, torch.zeros(1, 3, request.size, request.size), torch.zeros(1))
    raise AssertionError("the trainer ends only when the meter says so")


def sample(request: Request) -> np.ndarray:
    """Sample from a snapshot with the package's DDIM sampler."""
    diffusion = _diffusion(request, sampling_timesteps=request.sampling["steps"])
    diffusion.load_state_dict(torch.load(request.snapshot, weights_only=True))
    diffusion.eval()
    return to_uint8(torch.cat([diffusion.sample(batch_size=n) for n in _parts(request.images, 64)]))


def _diffusion(request: Request, **settings: Any) -> Any:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    return GaussianDiffusion(Unet(**request.network), image_size=request.size, **settings)


def _parts(n: int, most: int) -> list[int]:
    return [min(most, n - start) for start in range(0, n, most)]


class Compose:
    """Apply transforms in turn."""

    def __init__(self, transforms: list[Any]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        """Return the transformed image."""
        for transform in self.transforms:
            image = transform(image)
        return image


class Lambda(Compose):
    """Apply one function."""

    def __init__(self, function: Any) -> None:
        super().__init__([function])


class Resize:
    """Resize the shorter side of an image."""

    def __init__(self, size: tuple[int, int] | int) -> None:
        self.size = min(size) if isinstance(size, tuple) else size

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the resized image."""
        scale = self.size / min(image.size)
        wide, high = (max(self.size, int(side * scale)) for side in image.size)
        return image.resize((wide, high), Image.Resampling.BILINEAR)


class CenterCrop(Resize):
    """Cut out the centre square."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the square."""
        left, top = ((side - self.size) // 2 for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


class RandomHorizontalFlip:
    """Mirror half of the images."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the image, mirrored or not."""
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


class ToTensor:
    """Convert an image to float32 (channels, height, width) in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the tensor."""
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


def stand_in() -> None:
    """Provide the names of torchvision that the package imports."""
    package, transforms, utils = (ModuleType(name) for name in ("torchvision", "transforms", "utils"))
    for one in (Compose, Lambda, Resize, CenterCrop, RandomHorizontalFlip, ToTensor):
        setattr(transforms, one.__name__, one)
    package.transforms, package.utils = transforms, utils  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": package, "torchvision.transforms": transforms, "torchvision.utils": utils}


if __name__ == "__main__":
    stand_in()
    answer(train, sample)
