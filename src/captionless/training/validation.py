"""The light version of an evaluation, taken while a model learns: one figure of likeness, and copies in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.features import own_features
from captionless.encoders.hub import BUNDLED
from captionless.errors import CaptionlessError
from captionless.evaluation.metrics import MINIMUM, Estimate, memorised, memorises, nearest, paired_kid, share
from captionless.generation.sample import Stage, sample, to_images
from captionless.models.unet import Denoiser
from captionless.training.dataset import TrainingImages

IMAGES = 100
PROBES = 60
"""Training pictures whose own conditions are asked for: where copies show first."""
STEPS = 10
COMPARED = 5_000
"""Training pictures that paintings are compared with, at most."""


@dataclass(frozen=True)
class ValidationResult:
    """What a look at a model showed.

    Args:
        images: pictures seen in training until then.
        kid: kernel distance times 1000, of pictures painted from held-out pictures' vectors to those pictures.
        memorised: share of the pictures painted from training pictures' own conditions that repeat a training picture.
        real: share of the held-out pictures that look as if they did.
    """

    images: int
    kid: Estimate
    memorised: Estimate
    real: Estimate

    @property
    def memorises(self) -> bool | None:
        """Whether more pictures are copies than chance explains; None where too few are held out to rule it out."""
        return memorises([self.memorised], self.real, sound=True)

    def better_than(self, other: ValidationResult | None) -> bool:
        """Tell whether this is the better model to keep: not one that memorises, else the one of lower KID."""
        if other is None:
            return True
        caught, was_caught = self.memorises is True, other.memorises is True
        if caught != was_caught:
            return was_caught
        return self.kid.value < other.kid.value


class Validator:
    """Looks at a model again and again, always at the same held-out pictures from the same noise.

    Args:
        config: the model's.
        pictures: of the training.
        flip: whether it mirrors them.
        small: paints the small pictures that it enlarges, where it does.

    Raises:
        CaptionlessError: too few pictures are held out.
    """

    def __init__(
        self, config: ModelConfig, pictures: TrainingImages, flip: bool = True, small: Stage | None = None
    ) -> None:
        check_held_out(pictures)
        aside = pictures.held_out
        self.config, self.small = config, small
        encoder = pictures.encoder or load_encoder(BUNDLED)
        self.features = own_features(encoder)
        chosen = _choice(len(aside.names), IMAGES)
        self.conditions, held_out = aside.vectors[chosen], aside.pixels[chosen]
        compared = _choice(len(pictures.train.names), COMPARED)
        self.training = pictures.train.pixels[compared]
        self.mirrored = self.training.flip(3) if flip else None
        probes = compared[_choice(len(compared), PROBES)]
        self.own = pictures.train.vectors[probes]
        self.real = self._look(held_out)
        self.real_share = self._share(held_out)

    def look(self, denoiser: Denoiser, images: int) -> ValidationResult:
        """Paint with the weights as they are now, and compare."""
        device = next(denoiser.parameters()).device
        sampling = SamplingConfig(steps=STEPS, precision="float32")
        conditions = torch.cat([self.conditions, self.own]).to(device)
        seeds: Sequence[int] = range(len(conditions))
        stages = [*([self.small] if self.small else []), Stage(denoiser, self.config)]
        sampled = sample(stages, conditions, seeds, sampling)
        asked_anew, asked_again = sampled[: len(self.conditions)], sampled[len(self.conditions) :]
        return ValidationResult(
            images, paired_kid(self.real, self._look(asked_anew)), self._share(asked_again), self.real_share
        )

    def _look(self, pixels: Tensor) -> Tensor:
        return self.features.encode_images(to_images(pixels))

    def _share(self, pixels: Tensor) -> Estimate:
        mirrored = None if self.mirrored is None else self.mirrored.flatten(1)
        guilty = memorised(nearest(pixels.flatten(1), self.training.flatten(1), mirrored))
        return share(int(guilty.sum()), len(guilty))


def check_held_out(pictures: TrainingImages) -> None:
    """Raise unless enough pictures are held out to look at a model by; the message names a share that would do."""
    aside, total = len(pictures.held_out.names), len(pictures.held_out.names) + len(pictures.train.names)
    if aside >= MINIMUM:
        return
    hint = "Give more pictures"
    if total >= 3 * MINIMUM:
        hint = f"Try --hold-out {max(0.1, min(0.5, 1.5 * MINIMUM / total)):.2g}"
    raise CaptionlessError(
        f"--evaluate-every needs at least {MINIMUM} held-out pictures, and there are {aside}. {hint}, or leave it out."
    )


def _choice(n: int, most: int) -> Tensor:
    """Return up to ``most`` of the numbers below ``n``, always the same ones."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most]
