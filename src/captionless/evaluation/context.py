"""Generate the images of an evaluation, and provide the data that its sections measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.features import Features
from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.data import EvaluationData, ImageSet
from captionless.evaluation.samples import sample_kept
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt
from captionless.generation.sample import to_images
from captionless.progress import Progress

FEATURE_BATCH = 64
"""Number of images whose features are computed between two progress updates."""
PROMPT_SEEDS, TRAINING_SEEDS = 1_000_000, 2_000_000
"""Offsets added to the seeds of a series of images, so that different series do not share noise."""


@dataclass(frozen=True)
class ImagesWithFeatures:
    """Images, uint8 (n, channels, size, size), with their features, float32 (n, f)."""

    pixels: Tensor
    features: Tensor

    def take(self, index: Sequence[int]) -> ImagesWithFeatures:
        """Return the images at the given indices."""
        return ImagesWithFeatures(self.pixels[list(index)], self.features[list(index)])


@dataclass(frozen=True)
class PromptSet:
    """The prompts of an evaluation, their source, and the number of images generated from each prompt."""

    prompts: tuple[Prompt, ...]
    source: str
    images: int


@dataclass(frozen=True)
class EvaluationContext:
    """The data shared by the sections of a model's evaluation; each series of images is generated on first access.

    Args:
        generator: the model.
        sampling: the sampling settings.
        config: the evaluation settings, including the seed.
        data: the images of the folder in the model's input format.
        real: the real images whose conditions the model generates from.
        prompts: the prompts to generate from; None if there are no prompts.
        features: the feature extractor for comparing images.
        classifier: the reference classifier, or the reason why it could not be trained.
        training_conditions: conditions of some training images, (m, d); empty if they are not needed.
        progress: receives progress updates.
    """

    generator: Generator
    sampling: SamplingConfig
    config: EvaluationConfig
    data: EvaluationData
    real: ImageSet
    prompts: PromptSet | None
    features: Features
    classifier: ReferenceClassifier | str
    training_conditions: Tensor = field(repr=False)
    progress: Progress

    def embed(self, pixels: Tensor) -> Tensor:
        """Compute the features, float32 (n, f), of images, uint8 (n, channels, size, size)."""
        found = []
        for start in range(0, len(pixels), FEATURE_BATCH):
            found.append(self.features.encode_images(to_images(pixels[start : start + FEATURE_BATCH])))
            self.progress.advance("Comparing images", min(start + FEATURE_BATCH, len(pixels)), len(pixels))
        return torch.cat(found) if found else torch.empty(0, 1)

    def sample(self, conditions: Tensor, offset: int = 0) -> ImagesWithFeatures:
        """Generate one image for each condition (n, d), n > 0, and compute the features of the images."""
        pixels = self.sample_pixels(conditions, offset)
        return ImagesWithFeatures(pixels, self.embed(pixels))

    def sample_pixels(self, conditions: Tensor, offset: int) -> Tensor:
        """Generate one image for each condition (n, d), as uint8 (n, channels, size, size)."""
        seeds = self.seeds(len(conditions), offset)
        return sample_kept(self.generator, conditions, seeds, self.sampling, self.progress)

    def seeds(self, n: int, offset: int) -> list[int]:
        """Return the seeds of a series of ``n`` images."""
        return [(self.config.seed + offset + i) % 2**32 for i in range(n)]

    @cached_property
    def real_samples(self) -> ImagesWithFeatures:
        """The real images with their features."""
        return ImagesWithFeatures(self.real.pixels, self.embed(self.real.pixels))

    @cached_property
    def reconstructions(self) -> ImagesWithFeatures:
        """One image generated from the condition of each real image."""
        return self.sample(self.real.conditions)

    @cached_property
    def prompted(self) -> ImagesWithFeatures | None:
        """Images generated from each prompt in turn; None if there are no prompts."""
        if self.prompts is None:
            return None
        texts = [prompt.text for prompt in self.prompts.prompts for _ in range(self.prompts.images)]
        seeds = self.seeds(len(texts), PROMPT_SEEDS)
        return self.sample(self.generator.conditions(texts, self.sampling, seeds), PROMPT_SEEDS)

    @cached_property
    def training_samples(self) -> ImagesWithFeatures | None:
        """Images generated from the conditions of training images; None if ``training_conditions`` is empty."""
        return self.sample(self.training_conditions, TRAINING_SEEDS) if len(self.training_conditions) else None
