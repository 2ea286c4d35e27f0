"""Measure fidelity and diversity: are generated images as realistic and as varied as real images?"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionless.evaluation.context import EvaluationContext
from captionless.evaluation.metrics import MINIMUM_MANIFOLD, TooFewError, compare_sets, paired_kid
from captionless.evaluation.report.results import Figure, ImageGrid, Section
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

PAIRS = 8
"""Number of real images that the report shows, each above the image generated from it."""
MORE = "Increase `samples`, or use a folder with more images."

FORMATS: dict[str, tuple[str, str, bool, int]] = {
    "kid": ("KID × 1000", "lower", False, 1),
    "cmmd": ("CMMD", "lower", False, 3),
    "precision": ("Precision", "higher", True, 1),
    "recall": ("Recall", "higher", True, 1),
    "density": ("Density", "higher", False, 2),
    "coverage": ("Coverage", "higher", True, 1),
}
"""For each figure: the label, the better direction, whether it is a share, and the number of decimal places."""

EXPLANATIONS = {
    "kid": "Unbiased kernel distance between the feature distributions (arXiv:1801.01401). It is very sensitive to "
    "texture; compare it with the values of altered real images.",
    "cmmd": "Unbiased distance with a Gaussian kernel of width 10 on unit vectors, times 1000 (arXiv:2401.09603).",
    "precision": "Share of generated images within the manifold of real images (arXiv:1904.06991): are they plausible?",
    "recall": "Share of real images within the manifold of generated images (arXiv:1904.06991): is everything covered?",
    "density": "How densely real images surround the generated images (arXiv:2002.09797); about 1 for real images.",
    "coverage": "Share of real images with a generated image nearby (arXiv:2002.09797).",
}


def fidelity_section(context: EvaluationContext) -> Section:
    """Compare real images with images generated from their conditions."""
    real, generated, seed = context.real_samples, context.reconstructions, context.config.seed
    asked = "classes" if context.generator.classes else "image vectors"
    some = torch.linspace(0, len(real.pixels) - 1, min(PAIRS, len(real.pixels))).round().long()
    rows = [to_images(real.pixels[some]), to_images(generated.pixels[some])]
    grid = sample_grid(rows, ("real images", f"generated from their {asked}"), max(96, real.pixels.shape[-1]))
    grids = (ImageGrid(f"Real images, and images generated from their {asked}", grid),)
    try:
        comparisons = compare_sets(real.features, generated.features, seed=seed)
    except TooFewError as error:
        return Section("fidelity", missing=(("Fidelity and diversity", f"{error} {MORE}"),), grids=grids)
    marks = tuple(
        (label, paired_kid(real.features, context.embed(altered), seed=seed))
        for label, altered in alterations(real.pixels)
    )
    figures = tuple(
        Figure(
            one.name,
            FORMATS[one.name][0],
            one.model,
            one.real,
            *FORMATS[one.name][1:],
            explanation=EXPLANATIONS[one.name],
            marks=marks if one.name == "kid" else (),
        )
        for one in comparisons
    )
    features, size = context.features, real.pixels.shape[-1]
    kind = "independent of the model" if features.independent else "the model's own encoder, so not independent"
    notes = (
        f"Images are compared by {features.name} ({kind}), at a size of {size} pixels.",
        f"Every figure compares one half of the real images with images generated from the {asked} of the other half, "
        "over many random halves. The reference compares the two halves of the real images. Ranges contain 95% of the "
        "splits.",
    )
    why = f"it needs at least {MINIMUM_MANIFOLD} images, but there are {len(real.pixels)}. {MORE}"
    found = {figure.key for figure in figures}
    missing = tuple((shown[0], why) for name, shown in FORMATS.items() if name not in found)
    return Section("fidelity", figures, missing, grids, notes)


def alterations(pixels: Tensor) -> list[tuple[str, Tensor]]:
    """Alter images with noise and with half the resolution; the KID of these images serves as a scale.

    Args:
        pixels: uint8 (n, channels, size, size).

    Returns:
        For each alteration, a description and the altered images in the shape of ``pixels``.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for level in (4, 16):
        noise = level * torch.randn(pixels.shape, generator=generator)
        altered = (pixels.float() + noise).round().clamp(0, 255).to(torch.uint8)
        found.append((f"real images with noise of {level} of 255 levels", altered))
    halved = np.stack([np.asarray(_halved(image)) for image in to_images(pixels)])
    back = torch.from_numpy(halved).reshape(len(pixels), *pixels.shape[2:], -1).permute(0, 3, 1, 2)
    return [*found, ("real images at half the resolution, upsampled", back.contiguous())]


def _halved(image: Image.Image) -> Image.Image:
    half = (max(1, image.width // 2), max(1, image.height // 2))
    return image.resize(half, Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.BICUBIC)
