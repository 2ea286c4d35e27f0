"""The light version of an evaluation, taken while a model learns: one figure of likeness, and copies in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.checkpoint import ModelConfig
from captionless.denoiser import Denoiser
from captionless.encoders import BUNDLED, load_encoder
from captionless.errors import CaptionlessError
from captionless.evaluation.estimate import Estimate, excess, share
from captionless.evaluation.features import own_features
from captionless.evaluation.likeness import MINIMUM, against
from captionless.evaluation.memorisation import memorised, nearest
from captionless.painting import paint, to_images
from captionless.sampling import Sampling
from captionless.training_pictures import TrainingPictures

PICTURES = 100
STEPS = 10
COMPARED = 5_000
"""Training pictures that paintings are compared with, at most."""


@dataclass(frozen=True)
class Glance:
    """What a look at a model showed.

    Args:
        images: pictures seen in training until then.
        kid: kernel distance times 1000, of pictures painted from held-out pictures' vectors to those pictures.
        memorised: share of them that repeat a training picture.
        real: the same of the held-out pictures.
    """

    images: int
    kid: Estimate
    memorised: Estimate
    real: Estimate

    @property
    def memorises(self) -> bool:
        """Whether more pictures are copies than chance explains."""
        return excess(self.memorised, self.real) > 0

    def better_than(self, other: Glance | None) -> bool:
        """Tell whether this is the better model to keep: not one that memorises, else the one of lower KID."""
        if other is None:
            return True
        if self.memorises != other.memorises:
            return other.memorises
        return self.kid.value < other.kid.value


class Watch:
    """Looks at a model again and again, always at the same held-out pictures from the same noise.

    Args:
        config: the model's.
        pictures: of the training.

    Raises:
        CaptionlessError: too few pictures are held out.
    """

    def __init__(self, config: ModelConfig, pictures: TrainingPictures) -> None:
        aside = pictures.held_out
        if len(aside.names) < MINIMUM:
            total = len(aside.names) + len(pictures.train.names)
            hint = "Give more pictures"
            if total >= 3 * MINIMUM:
                hint = f"Try --hold-out {max(0.1, min(0.5, 1.5 * MINIMUM / total)):.2g}"
            raise CaptionlessError(
                f"--evaluate-every needs at least {MINIMUM} held-out pictures, and there are {len(aside.names)}. "
                f"{hint}, or leave it out."
            )
        self.config = config
        encoder = pictures.encoder or load_encoder(BUNDLED)
        self.features = own_features(encoder)
        chosen = torch.randperm(len(aside.names), generator=torch.Generator().manual_seed(0))[:PICTURES]
        self.conditions, held_out = aside.vectors[chosen], aside.pixels[chosen]
        self.training = _flat(_some(pictures.train.pixels))
        self.mirrored = _flat(_some(pictures.train.pixels).flip(3))
        self.real = self._look(held_out)
        self.real_share = self._share(held_out)

    def look(self, denoiser: Denoiser, images: int) -> Glance:
        """Paint with the weights as they are now, and compare."""
        device = next(denoiser.parameters()).device
        sampling = Sampling(steps=STEPS, precision="float32")
        seeds: Sequence[int] = range(len(self.conditions))
        painted = paint(denoiser, self.config, self.conditions.to(device), seeds, sampling)
        return Glance(images, against(self.real, self._look(painted)), self._share(painted), self.real_share)

    def _look(self, pixels: Tensor) -> Tensor:
        return self.features.encode_images(to_images(pixels))

    def _share(self, pixels: Tensor) -> Estimate:
        guilty = memorised(nearest(_flat(pixels), self.training, self.mirrored))
        return share(int(guilty.sum()), len(guilty))


def _some(pixels: Tensor) -> Tensor:
    if len(pixels) <= COMPARED:
        return pixels
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:COMPARED]]


def _flat(pixels: Tensor) -> Tensor:
    return pixels.flatten(1).float()
