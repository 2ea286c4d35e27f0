"""Check what is asked of a model, and turn it into what its network needs: conditions, seeds and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from captionless._version import __version__
from captionless.conditioning.composition import Composition, compose, slerp
from captionless.config.sampling import SamplingConfig
from captionless.data.crop import crop_square
from captionless.diffusion.guidance import WeightedCondition
from captionless.generation.editing import Edit
from captionless.generation.image import GeneratedImage, composition_details
from captionless.generation.prompts import check_prompts
from captionless.generation.sample import ImageBatch, image_batch

if TYPE_CHECKING:
    from captionless.generation.generator import Generator
    from captionless.generation.trajectory import Trajectory


@dataclass(frozen=True)
class PreparedImages:
    """Images that are ready to be sampled: ``n`` of each prompt, in this order.

    Args:
        prompts: the texts or class names.
        n: number of images per prompt.
        seeds: one seed per image.
        config: the sampling settings, resolved.
        conditions: weighted conditions, with one row per image.
        negative: conditions to guide away from, one row per image.
        edit: the photograph to edit.
        shares: the interpolation weights of the images of a prompt, if they lie between two prompts.
        details: what else is recorded with each image.
    """

    prompts: Sequence[str]
    n: int
    seeds: Sequence[int]
    config: SamplingConfig
    conditions: Sequence[WeightedCondition]
    negative: Tensor | None
    edit: Edit | None
    shares: Sequence[float]
    details: dict[str, Any]

    def batch(self, rows: slice, device: torch.device) -> ImageBatch:
        """Return some of the images as a batch to sample."""
        return image_batch(rows, self.conditions, self.seeds, self.config, self.negative, self.edit, device)

    def image(self, i: int, image: Image.Image, trajectory: Trajectory | None = None) -> GeneratedImage:
        """Return the sampled image ``i`` with everything needed to reproduce it."""
        own = {"towards_share": self.shares[i % self.n]} if self.shares else {}
        prompt, seed = self.prompts[i // self.n], self.seeds[i]
        return GeneratedImage(image, prompt, seed, self.config, own | self.details, trajectory)


def prepare(
    generator: Generator,
    prompts: Sequence[str],
    n: int,
    seed: int,
    sampling: SamplingConfig,
    composition: Composition | None = None,
    edit: Edit | None = None,
) -> PreparedImages:
    """Prepare what ``Generator.stream`` samples; the arguments are the same.

    Raises:
        CaptionlessError: there is no prompt, a prompt is empty, or ``n``, ``seed`` or a setting is out of range.
    """
    composition, start = composition or Composition(), edit.start if edit else 1.0
    check_prompts(prompts, n, seed, composition)
    config = generator.resolve(sampling, start)
    seeds = [seed if composition.walks else seed + i for _ in prompts for i in range(n)]
    vectors = _vectors(generator, [text for text in prompts for _ in range(n)], seeds, config, composition)
    conditions, negative = compose(vectors, n, composition, lambda texts: generator.conditions(texts, config), start)
    details = {"model": generator.model.name, **composition_details(composition, edit), "version": __version__}
    shares = composition.shares(n) if composition.towards else []
    return PreparedImages(prompts, n, seeds, config, conditions, negative, edit, shares, details)


def _vectors(
    generator: Generator, texts: Sequence[str], seeds: Sequence[int], config: SamplingConfig, composition: Composition
) -> Tensor:
    """Return the condition vector of each image's prompt, mixed with the reference images, (n, d)."""
    if not composition.references:
        return generator.conditions(texts, config, seeds)
    mean = image_vectors(generator, composition.references).mean(0, keepdim=True)
    vectors = torch.nn.functional.normalize(mean, dim=1).repeat(len(texts), 1)
    spoken = [i for i, text in enumerate(texts) if text.strip()]
    if spoken:
        words = generator.conditions([texts[i] for i in spoken], config, [seeds[i] for i in spoken])
        vectors[spoken] = slerp(words, vectors[spoken], composition.like_share)
    return vectors


def image_vectors(generator: Generator, images: Sequence[Image.Image]) -> Tensor:
    """Encode the central squares of n images as in training; return their vectors, (n, d)."""
    return generator.encoder.encode_images([encoder_view(generator, image) for image in images])


def encoder_view(generator: Generator, image: Image.Image) -> Image.Image:
    """Return what an encoder needs of an image, its central square, reduced; applied again, this changes nothing."""
    return crop_square(image.convert("RGB"), min(*image.size, 2 * generator.encoder.image_size))
