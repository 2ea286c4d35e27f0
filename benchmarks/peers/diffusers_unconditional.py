"""diffusers: a training loop that does in every step what its script for unconditional generation does.

The script (examples/unconditional_image_generation/train_unconditional.py) is not part of the package. Its defaults
are kept: DDPM noise with 1,000 steps, predicted noise, AdamW, gradients clipped to 1, accelerate, no worker
processes; ``--use_ema`` is on. Only the learning rate stays constant after the warm-up instead of following a
cosine, because the number of steps is not known in advance. Images are read by Pillow instead of torchvision.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.peer import Meter, Request, answer, count, image_paths, read_square, to_uint8


class Images(Dataset[Tensor]):
    """The images of a folder, decoded when they are needed, half of them mirrored, in [-1, 1]."""

    def __init__(self, folder: str, size: int) -> None:
        self.paths, self.size = image_paths(folder), size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return one image, (3, size, size)."""
        image = 2 * read_square(self.paths[index], self.size) - 1
        return image.flip(2) if random.random() < 0.5 else image


class Training:
    """What the script sets up before its loop, and does in each of its steps.

    Args:
        network: the network to train.
        precision: ``float32`` or ``bf16``.
    """

    def __init__(self, network: UNet2DModel, precision: str) -> None:
        self.accelerator = Accelerator(mixed_precision="bf16" if precision == "bf16" else "no")
        self.noising = DDPMScheduler(1000, beta_schedule="linear")
        self.average = EMAModel(
            network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75, model_cls=UNet2DModel
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        rates = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=500)
        self.network, self.optimizer, self.rates = self.accelerator.prepare(network, optimizer, rates)
        self.average.to(self.accelerator.device)

    def step(self, x0: Tensor) -> None:
        """Train on images in [-1, 1], (n, channels, size, size)."""
        eps = torch.randn_like(x0)
        t = torch.randint(0, self.noising.config.num_train_timesteps, (len(x0),), device=x0.device)
        with self.accelerator.accumulate(self.network):
            loss = F.mse_loss(self.network(self.noising.add_noise(x0, eps, t), t).sample.float(), eps)
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.rates.step()
            self.optimizer.zero_grad()
        self.average.step(self.network.parameters())
        loss.detach().item()  # the script logs the loss of every step


def train(request: Request) -> tuple[Meter, dict[str, int]]:
    """Train until the meter has seen enough."""
    training = Training(_network(request), request.precision)
    loader = DataLoader(Images(request.folder, request.size), batch_size=request.batch, shuffle=True)
    loader = training.accelerator.prepare(loader)

    def save(path: Path) -> None:
        names = [name for name, _ in training.network.named_parameters()]
        torch.save(dict(zip(names, training.average.shadow_params, strict=True)), path)

    meter, images, done = Meter(request, save), 0, False
    for x0 in _endless(loader):
        training.step(x0)
        images += len(x0)
        if done := meter.step(images):
            break
    assert done
    return meter, count(_network(request), torch.zeros(1, 3, request.size, request.size), torch.zeros(1))


@torch.no_grad()
def sample(request: Request) -> np.ndarray:
    """Sample from a snapshot with DDIM."""
    average, scheduler = _network(request).eval(), DDIMScheduler(1000, beta_schedule="linear")
    average.load_state_dict(torch.load(request.snapshot, weights_only=True))
    scheduler.set_timesteps(request.sampling["steps"])
    xt = torch.randn(request.images, 3, request.size, request.size)
    for t in scheduler.timesteps:
        xt = scheduler.step(average(xt, t).sample, t, xt).prev_sample
    return to_uint8(xt / 2 + 0.5)


def _network(request: Request) -> UNet2DModel:
    """Return the script's network, whose channels are multiples of ``width`` (the script: 128)."""
    width = request.network["width"]
    return network(request.size, tuple(width * multiple for multiple in (1, 1, 2, 2, 4, 4)))


def network(size: int, channels: tuple[int, ...], groups: int = 32) -> UNet2DModel:
    """Return the script's network with other channels of its six levels and groups of its normalisation layers."""
    return UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=channels,
        norm_num_groups=groups,
        down_block_types=(*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
    )


def _endless(loader: Any) -> Iterator[Tensor]:
    while True:
        yield from loader


if __name__ == "__main__":
    answer(train, sample)
