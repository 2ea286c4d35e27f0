"""Measure memorisation: are generated images new, or copies of training images?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captionless.evaluation.context import EvaluationContext, ImagesWithFeatures
from captionless.evaluation.data import EvaluationData
from captionless.evaluation.lineage import trained_with_flips
from captionless.evaluation.metrics import (
    ENOUGH_HELD_OUT,
    Estimate,
    Neighbours,
    TooFewError,
    memorised,
    memorises,
    nearest,
    share,
)
from captionless.evaluation.report.results import Figure, ImageGrid, Section
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

KEY = "memorisation"
SHOWN = 8
"""Number of training images that the report shows, each next to the generated image closest to it."""
COPIES = 0.05
"""Maximum share of held-out images that may resemble training images; above it they are no valid reference."""
MOST, HALF = 0.9, 0.5
"""Shares of the training images found in the folder: below the first the report adds a note, below the second the
result is inconclusive."""
NO_TRACE = "the folder contains none of the model's training images"
UNKNOWN = "the model's training images are not recorded"


@dataclass(frozen=True)
class Matches:
    """A series of images and their nearest training images.

    Args:
        key: key of the series' figure in the report.
        label: description of the conditions that the images were generated from, for the report.
        pixels: the images.
        neighbours: the nearest training images, measured in ``features`` and in ``pixels``.
    """

    key: str
    label: str
    pixels: Tensor
    neighbours: dict[str, Neighbours]

    @property
    def share(self) -> Estimate:
        """The share of images that count as memorised in pixels or in features."""
        flagged = torch.stack([memorised(one) for one in self.neighbours.values()]).any(0)
        return share(int(flagged.sum()), len(flagged))


def memorisation_section(context: EvaluationContext) -> tuple[Section, bool | None]:
    """Measure how many generated images are copies of training images.

    Returns:
        The section, and whether the model memorises (None if the result is inconclusive).
    """
    data, held_out = context.data, len(context.data.held_out)
    if not len(data.seen):
        return Section(KEY, missing=(("Memorisation", NO_TRACE if data.trained else UNKNOWN),)), None
    variants = [ImagesWithFeatures(data.seen.pixels, context.embed(data.seen.pixels))]
    if trained_with_flips(context.generator.model.config):  # training may have flipped them horizontally
        flipped = data.seen.pixels.flip(3)
        variants.append(ImagesWithFeatures(flipped, context.embed(flipped)))
    try:
        real = _match("real", "", context.real_samples, variants).share if held_out else None
        series = [_match(key, label, samples, variants) for key, label, samples in _series(context)]
    except TooFewError as error:
        return Section(KEY, missing=(("Memorisation", str(error)),)), None
    notes, doubts = _caveats(data, real)
    proven = memorises([one.share for one in series], real, sound=not doubts)
    if real is None or real.n < ENOUGH_HELD_OUT:
        count = real.n if real else "none"
        doubts.append(f"the reference needs {ENOUGH_HELD_OUT} held-out images, but there were {count}")
    figures = tuple(_figure(one, real) for one in series)
    grids = tuple(_grid(one, data.seen.pixels) for one in series)
    return Section(KEY, figures, grids=grids, notes=tuple(notes), reasons=() if proven else tuple(doubts)), proven


def _series(context: EvaluationContext) -> list[tuple[str, str, ImagesWithFeatures]]:
    """Return key, label and images of two series: from new conditions, and from conditions of training images."""
    held_out = len(context.data.held_out)
    new = [samples for samples in (context.prompted, context.reconstructions if held_out else None) if samples]
    own = context.training_samples if held_out else context.reconstructions
    found = []
    if new:
        both = ImagesWithFeatures(torch.cat([one.pixels for one in new]), torch.cat([one.features for one in new]))
        found.append(("memorised", "asked for something new", both))
    if own:
        found.append(("memorised_own", "asked for what it was trained on", own))
    return found


def _match(key: str, label: str, samples: ImagesWithFeatures, training: list[ImagesWithFeatures]) -> Matches:
    """Find the nearest training image of each image; ``training`` is [images] or [images, mirror images]."""
    features = nearest(samples.features, *(one.features for one in training))
    pixels = nearest(samples.pixels.flatten(1), *(one.pixels.flatten(1) for one in training))
    return Matches(key, label, samples.pixels, {"features": features, "pixels": pixels})


def _caveats(data: EvaluationData, real: Estimate | None) -> tuple[list[str], list[str]]:
    """Return notes on the comparison, and reasons why copies of training images may have been missed."""
    notes, doubts = [], []
    if not data.trained:
        doubts.append(UNKNOWN)
    elif data.found < MOST * data.trained_on:
        compared = f"only {data.found:,} of the {data.trained_on:,} images that the model was trained on"
        notes.append(f"Generated images were compared with {compared}; copies of the others are not found.")
        if data.found < HALF * data.trained_on:
            doubts.append(f"generated images were compared with {compared}")
    if real and real.value > COPIES:
        doubts.append(f"{real.value:.0%} of the held-out images look like copies themselves")
        notes.append(
            f"{real.value:.0%} of the held-out images are as close to a training image as a copy would be. If they are "
            "resized or re-encoded training images, they are not really held out. In that case fidelity is "
            "overestimated, and the share of copies among them is not a valid reference."
        )
    return notes, doubts


def _figure(matches: Matches, real: Estimate | None) -> Figure:
    reference = " The reference is the same share for held-out real images." if real else ""
    return Figure(
        matches.key,
        f"Memorised, {matches.label}",
        matches.share,
        real,
        "lower",
        percent=True,
        explanation="Share of images whose distance to the nearest training image (or its mirror image) is less than a "
        "third of the distance to the second nearest, in pixels or in features (arXiv:2310.02664). Near-duplicates of "
        f"the nearest image are ignored.{reference}",
    )


def closest_pairs(matches: Matches) -> list[tuple[int, int, float]]:
    """Return (generated index, training index, distance ratio) of the closest pairs in ascending order of the ratio.

    Each training image appears only once.
    """
    neighbours = list(matches.neighbours.values())
    ratio, space = torch.stack([one.ratio for one in neighbours]).min(0)
    found = dict[int, tuple[int, int, float]]()
    for i in ratio.argsort().tolist():
        index = int(neighbours[int(space[i])].index[i])
        found.setdefault(index, (i, index, float(ratio[i])))
    return list(found.values())


def _grid(matches: Matches, training: Tensor) -> ImageGrid:
    """Draw the generated images closest to training images, each next to its nearest training image."""
    images: list[Image.Image] = []
    labels: list[str] = []
    for i, index, ratio in closest_pairs(matches)[:SHOWN]:
        images += [*to_images(matches.pixels[[i]]), *to_images(training[[index]])]
        labels += [f"generated ({ratio:.2f})", "nearest training image"]
    grid = sample_grid(images, labels, columns=8, cell=max(96, training.shape[-1]))
    note = (
        "Closest pairs first. The number is the distance to the nearest training image divided by the distance to the "
        "second nearest, in pixels or in features; values below 0.33 count as memorised."
    )
    return ImageGrid(f"Nearest training images, {matches.label}", grid, note)
