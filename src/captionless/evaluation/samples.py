"""Generate the images of an evaluation, and hold everything that its sections measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.features import Features
from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.data import EvaluationData, ImageSet
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt
from captionless.generation.sample import sample, to_images
from captionless.progress import Progress

FEATURE_BATCH = 64
"""Images whose features are computed between two reports of progress."""
PROMPT_SEEDS, TRAINING_SEEDS, SWEEP_SEEDS = 1_000_000, 2_000_000, 3_000_000
"""Added to the seed of each series, so that no two series share noise."""


@dataclass(frozen=True)
class EvaluationSampler:
    """Generates series of images with one model.

    Args:
        generator: the model.
        sampling: how images are generated.
        seed: image i of a series uses ``seed + offset + i``.
        progress: receives how far a series is.
    """

    generator: Generator
    sampling: SamplingConfig
    seed: int
    progress: Progress

    def seeds(self, n: int, offset: int = 0) -> list[int]:
        """Return the seeds of a series of ``n`` images."""
        return [(self.seed + offset + i) % 2**32 for i in range(n)]

    def sample(self, conditions: Tensor, offset: int = 0, **changes: Any) -> Tensor:
        """Generate one image for each condition.

        Args:
            conditions: (n, d), n > 0.
            offset: added to the seeds.
            changes: fields of ``sampling`` that differ for this series.

        Returns:
            uint8 (n, channels, size, size).
        """
        generator, seeds = self.generator, self.seeds(len(conditions), offset)
        return sample(generator.stages, conditions, seeds, self.sampling.replace(**changes), progress=self.progress)


@dataclass(frozen=True)
class Samples:
    """Images and their features.

    Args:
        pixels: uint8 (n, channels, size, size).
        features: float32 (n, f).
    """

    pixels: Tensor
    features: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    def take(self, index: Sequence[int]) -> Samples:
        """Return the images at the given indices."""
        return Samples(self.pixels[list(index)], self.features[list(index)])


@dataclass(frozen=True)
class PromptSet:
    """The prompts of an evaluation.

    Args:
        prompts: one or more prompts.
        source: where they come from, for the report.
        images: number of images generated from each prompt.
    """

    prompts: tuple[Prompt, ...]
    source: str
    images: int


@dataclass(frozen=True)
class EvaluationContext:
    """The data shared by the sections of one model's evaluation.

    Each series of images is generated once, when first needed.

    Args:
        sampler: generates images with the model.
        config: the sizes of the evaluation.
        data: the images of the folder in the model's input format.
        real: real images whose conditions the model generates from.
        usable: number of candidates that ``real`` was chosen from.
        prompts: the prompts to generate from; None if there are no prompts.
        features: the image features to compare by.
        classifier: the reference classifier; or the reason why it could not be trained.
        training_conditions: conditions of some training images, (m, d); m is 0 where they would add nothing.
        embedding_bank: features of training images stored with the model, (k, f); None if the model stores no bank or
            images are compared by other features.
        mirrored: whether horizontal flips preserve what an image shows.
        remarks: sentences on the choice of training images.
    """

    sampler: EvaluationSampler
    config: EvaluationConfig
    data: EvaluationData
    real: ImageSet
    usable: int
    prompts: PromptSet | None
    features: Features
    classifier: ReferenceClassifier | str
    training_conditions: Tensor = field(repr=False)
    embedding_bank: Tensor | None = field(repr=False)
    mirrored: bool
    remarks: tuple[str, ...] = ()

    @property
    def generator(self) -> Generator:
        """The model."""
        return self.sampler.generator

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the features of images, uint8 (n, channels, size, size), as float32 (n, f)."""
        found = []
        for start in range(0, len(pixels), FEATURE_BATCH):
            found.append(self.features.encode_images(to_images(pixels[start : start + FEATURE_BATCH])))
            self.sampler.progress.advance("Comparing images", min(start + FEATURE_BATCH, len(pixels)), len(pixels))
        return torch.cat(found)

    def sample(self, conditions: Tensor, offset: int = 0, **changes: Any) -> Samples:
        """Generate one image for each condition, as ``EvaluationSampler.sample`` does, and compute their features."""
        pixels = self.sampler.sample(conditions, offset, **changes)
        return Samples(pixels, self.embed(pixels))

    @cached_property
    def real_samples(self) -> Samples:
        """The real images with their features."""
        return Samples(self.real.pixels, self.embed(self.real.pixels) if len(self.real) else torch.empty(0, 1))

    @cached_property
    def reconstructions(self) -> Samples:
        """One image generated from the condition of each real image."""
        return self.sample(self.real.conditions)

    @cached_property
    def prompted(self) -> Samples | None:
        """Images generated from each prompt in turn; None without prompts."""
        if self.prompts is None:
            return None
        texts = [prompt.text for prompt in self.prompts.prompts]
        conditions = self.generator.conditions(texts, self.sampler.sampling)
        return self.sample(conditions.repeat_interleave(self.prompts.images, 0), PROMPT_SEEDS)

    @cached_property
    def training_samples(self) -> Samples | None:
        """Images generated from training images' own conditions; None if ``training_conditions`` is empty."""
        return self.sample(self.training_conditions, TRAINING_SEEDS) if len(self.training_conditions) else None
