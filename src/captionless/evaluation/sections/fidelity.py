"""The part of an evaluation on likeness to the folder."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captionless.evaluation.data import Images
from captionless.evaluation.metrics import TooFewError, compare_sets, paired_kid
from captionless.evaluation.report.results import Figure, ImageGrid, ReferencePoint, Section
from captionless.evaluation.samples import EvaluationSampler
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

PAIRS = 8
NOISES = (4, 16)
"""Standard deviations of the noise on the scale of KID, in levels of 255."""
ALTERATIONS = len(NOISES) + 1
"""Ways in which real pictures are altered for that scale."""

ABOUT: dict[str, tuple[str, str, bool, int, str]] = {
    "kid": (
        "KID × 1000",
        "lower",
        False,
        1,
        "Kernel distance of the features' distributions, unbiased (arXiv:1801.01401). Mercilessly sensitive to "
        "texture: read it on the scale of altered photographs.",
    ),
    "cmmd": (
        "CMMD",
        "lower",
        False,
        3,
        "Distance with a Gaussian kernel of width 10 on unit vectors, unbiased, times 1000 (arXiv:2401.09603).",
    ),
    "fid": ("Fréchet distance", "lower", False, 1, "Of two Gaussians (arXiv:1706.08500); biased upwards."),
    "precision": (
        "Precision",
        "higher",
        True,
        1,
        "Share of paintings that lie among real pictures (arXiv:1904.06991): are they plausible?",
    ),
    "recall": (
        "Recall",
        "higher",
        True,
        1,
        "Share of real pictures that lie among paintings (arXiv:1904.06991): is everything there?",
    ),
    "density": (
        "Density",
        "higher",
        False,
        2,
        "How deep among real pictures the paintings lie (arXiv:2002.09797); real pictures have about 1.",
    ),
    "coverage": (
        "Coverage",
        "higher",
        True,
        1,
        "Share of real pictures with a painting close by (arXiv:2002.09797).",
    ),
}
"""Of each figure: label, which way is better, whether it is a share, decimal places, explanation."""


def likeness_section(
    studio: EvaluationSampler, real: Images, real_features: Tensor, sampled: Tensor, usable: int
) -> tuple[Section, Tensor]:
    """Compare pictures painted from real ones' vectors with those real ones.

    Args:
        studio: the model.
        real: the real pictures.
        real_features: theirs, (n, f).
        painted: one painted from each one's condition, uint8 (n, channels, size, size).
        usable: how many real pictures there would have been to choose from.

    Returns:
        The section, and the features of the painted pictures.
    """
    features = studio.look(sampled, "Looking at paintings")
    notes = [_by(studio)]
    sheet = _pairs(real.pixels, sampled, _asked(studio))
    try:
        comparisons, missing = compare_sets(real_features, features, seed=studio.seed, usable=usable)
    except TooFewError as error:
        return Section("likeness", (), (("Likeness to the folder", str(error)),), grids=(sheet,)), features
    figures = []
    for comparison in comparisons:
        label, better, percent, digits, explanation = ABOUT[comparison.name]
        figures.append(
            Figure(comparison.name, label, comparison.model, comparison.real, better, percent, digits, explanation)
        )
    marks = texture_marks(studio, real.pixels, real_features)
    notes.append(
        f"Every figure compares one half of the real pictures with pictures painted from the {_asked(studio)} of the "
        "other half, over many random halves; beside it, the same with the other half itself. Ranges hold 95% of the "
        "halves."
    )
    left_out = tuple((ABOUT[name][0], why) for name, why in missing)
    return Section("likeness", tuple(figures), left_out, marks, (), (sheet,), tuple(notes)), features


def _by(studio: EvaluationSampler) -> str:
    features = studio.features
    kind = "independent of the model" if features.independent else "the model's own encoder, so not independent"
    return f"Pictures are compared by {features.name} ({kind}), at the model's size of {_size(studio)} pixels."


def _size(studio: EvaluationSampler) -> int:
    return studio.generator.model.config.size


def texture_marks(studio: EvaluationSampler, pixels: Tensor, features: Tensor) -> tuple[ReferencePoint, ...]:
    """Measure the KID of real pictures that were altered a little, so that one of paintings has a scale."""
    marks = []
    for key, label, altered in alterations(pixels):
        found = paired_kid(features, studio.look(altered, "Looking at altered pictures"), seed=studio.seed)
        marks.append(ReferencePoint(key, label, found))
    return tuple(marks)


def alterations(pixels: Tensor) -> list[tuple[str, str, Tensor]]:
    """Return pictures, uint8 (n, channels, size, size), altered in several ways: key, what was done, pictures."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for level in NOISES:
        noise = level * torch.randn(pixels.shape, generator=generator)
        altered = (pixels.float() + noise).round().clamp(0, 255).to(torch.uint8)
        found.append((f"noise_{level}", f"real pictures with noise of {level} of 255 levels", altered))
    halved = [np.asarray(_halved(image)) for image in to_images(pixels)]
    back = torch.from_numpy(np.stack(halved)).reshape(len(pixels), *pixels.shape[2:], -1).permute(0, 3, 1, 2)
    found.append(("half_size", "real pictures at half the resolution, enlarged", back.contiguous()))
    return found


def _halved(image: Image.Image) -> Image.Image:
    half = (max(1, image.width // 2), max(1, image.height // 2))
    return image.resize(half, Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.BICUBIC)


def _asked(studio: EvaluationSampler) -> str:
    return "classes" if studio.generator.classes else "vectors"


def _pairs(real: Tensor, sampled: Tensor, asked: str) -> ImageGrid:
    shown = torch.linspace(0, len(real) - 1, min(PAIRS, len(real))).round().long()
    rows = [to_images(real[shown]), to_images(sampled[shown])]
    sheet = sample_grid(rows, ("real pictures", f"painted from their {asked}"), cell=max(96, real.shape[-1]))
    return ImageGrid(f"Real pictures, and painted from their {asked}", sheet)
