"""What a model is made of when it samples, and what it shows on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor
from torch.nn import functional as F

from captionless.checkpoints.config import ModelConfig
from captionless.diffusion.objective import Network
from captionless.diffusion.sampler_run import Step
from captionless.latents.space import PIXELS, Space
from captionless.models.capture import captured_network
from captionless.models.unet import Denoiser


@dataclass(frozen=True)
class Stage:
    """The denoiser of a base model or super-resolution stage, on its device, with its model config and space."""

    denoiser: Denoiser
    config: ModelConfig
    space: Space = PIXELS

    def __post_init__(self) -> None:
        """Check that the space is that of the model."""
        assert self.space.reference == self.config.autoencoder

    @cached_property
    def network(self) -> Network:
        """The denoiser, whose calls are replayed as captured graphs on CUDA."""
        return captured_network(self.denoiser, next(self.denoiser.parameters()).device, warnings.warn)


@dataclass(frozen=True)
class ImageStep:
    """A step of the sampler, whose images are decoded when someone looks at them.

    Args:
        number: index of the step, counted through all stages.
        step: the step of its stage.
        show: maps what is denoised to images.
    """

    number: int
    step: Step
    show: Callable[[Tensor], Tensor]

    @property
    def t(self) -> float:
        """The time at which the step starts."""
        return self.step.t

    @cached_property
    def x(self) -> Tensor:
        """The noisy images at that time, in about [-1, 1], (n, channels, size, size)."""
        return self.show(self.step.x)

    @cached_property
    def x0(self) -> Tensor:
        """The clean images predicted from them."""
        return self.show(self.step.x0)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.step.x)

    def resized(self, size: int) -> ImageStep:
        """Return the step with its images resized to ``size`` x ``size`` pixels."""
        return replace(self, show=lambda x: F.interpolate(self.show(x), size=size, mode="nearest"))


OnStep = Callable[[ImageStep], None]
"""A callback that is called once per step; an exception that it raises stops the sampler."""
