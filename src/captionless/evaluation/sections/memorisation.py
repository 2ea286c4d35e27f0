"""Measure memorisation: are generated images new, or copies of training images?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captionless.evaluation.data import EvaluationData
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
from captionless.evaluation.samples import EvaluationContext, Samples
from captionless.generation.grids import sample_grid
from captionless.generation.sample import to_images

KEY = "memorisation"
SHOWN = 8
"""Number of training images that the page shows, each next to the generated image closest to it."""
COPIES = 0.05
"""If a larger share of held-out images look like copies of training images, they cannot show which share is usual."""
MOST, HALF = 0.9, 0.5
"""Shares of the training images: with fewer than the first the report says so, below the second nothing is proven."""
NO_PIXELS = (
    "The folder has none of the training images. Generated images were compared with the vectors of full-size training "
    "images that the model carries, which misses most copies, even exact ones: finding none here proves nothing."
)
NO_TRACE = "the folder has none of the images that the model was trained on"
UNKNOWN = "what the model was trained on is not recorded"


@dataclass(frozen=True)
class Matches:
    """A series of images, matched with the training images.

    Args:
        key: key of its figure in the report.
        label: what the images were generated from, for the report.
        samples: the images.
        flagged: whether each image counts as memorised, in pixels or in features, bool (n,).
        neighbours: its nearest training images in ``features`` and, where the folder has those, in ``pixels``.
    """

    key: str
    label: str
    samples: Samples
    flagged: Tensor
    neighbours: dict[str, Neighbours]

    @property
    def share(self) -> Estimate:
        """The share of flagged images."""
        return share(int(self.flagged.sum()), len(self.flagged))


def memorisation_section(context: EvaluationContext) -> tuple[Section, bool | None]:
    """Measure how many generated images are copies of training images.

    Returns:
        The section, and whether the model memorises; None where neither is proven.
    """
    training, mirrored = _training_images(context)
    if not len(training.features):
        return Section(KEY, missing=(("Memorisation", NO_TRACE),)), None
    held_out = len(context.data.held_out)
    try:
        real = _match("real", "", context.real_samples, training, mirrored).share if held_out else None
        series = [_match(key, label, samples, training, mirrored) for key, label, samples in _series(context)]
    except TooFewError as error:
        return Section(KEY, missing=(("Memorisation", str(error)),)), None
    notes, doubts = _notes(context, real), _doubts(context.data, real)
    proven = memorises([one.share for one in series], real, sound=not doubts)
    if real is None or real.n < ENOUGH_HELD_OUT:
        count = real.n if real else "none"
        doubts.append(f"it takes {ENOUGH_HELD_OUT} held-out images to say what is usual, and there were {count}")
    figures = tuple(_figure(one, real) for one in series)
    grids = tuple(_grid(one, training) for one in series if len(training.pixels))
    doubts = [] if proven else doubts
    return Section(KEY, figures, grids=grids, notes=tuple(notes), reasons=tuple(doubts)), proven


def _series(context: EvaluationContext) -> list[tuple[str, str, Samples]]:
    """Return key, label and images of each series: from new conditions, and from those of training images."""
    held_out = len(context.data.held_out)
    new = [context.prompted, context.reconstructions if held_out else None]
    fresh = [samples for samples in new if samples is not None]
    own = context.training_samples if held_out else context.reconstructions
    found = []
    if fresh:
        pixels, features = torch.cat([one.pixels for one in fresh]), torch.cat([one.features for one in fresh])
        found.append(("memorised", "asked for something new", Samples(pixels, features)))
    if own is not None:
        found.append(("memorised_own", "asked for what it was trained on", own))
    return found


def _training_images(context: EvaluationContext) -> tuple[Samples, Samples | None]:
    """Return the training images, and their mirror images if training may have flipped them horizontally.

    If the folder has no training images, the features are the model's embedding bank and there are no pixels.
    """
    pixels = context.data.seen.pixels
    if not len(pixels):
        bank = context.embedding_bank
        return Samples(pixels, torch.empty(0, 1) if bank is None else bank), None
    training = Samples(pixels, context.embed(pixels))
    if not context.mirrored:
        return training, None
    return training, Samples(pixels.flip(3), context.embed(pixels.flip(3)))


def _match(key: str, label: str, samples: Samples, training: Samples, mirrored: Samples | None) -> Matches:
    """Find the nearest training images of each image, and flag those that count as memorised."""
    found = {"features": nearest(samples.features, training.features, mirrored.features if mirrored else None)}
    if len(training.pixels):
        others = mirrored.pixels.flatten(1) if mirrored else None
        found["pixels"] = nearest(samples.pixels.flatten(1), training.pixels.flatten(1), others)
    return Matches(key, label, samples, torch.stack([memorised(one) for one in found.values()]).any(0), found)


def _notes(context: EvaluationContext, real: Estimate | None) -> list[str]:
    """Return caveats about the training images that generated images were compared with."""
    data, notes = context.data, []
    if not len(data.seen):
        notes.append(NO_PIXELS)
    elif data.found < MOST * data.trained_on:
        notes.append(
            f"Copies were sought among {data.found:,} of the {data.trained_on:,} training images; copies of the others "
            "are not found."
        )
    if len(data.seen) and data.inherited_missing:
        notes.append(
            f"Of the training images of the models that it was initialised from, {data.inherited_missing:,} are not in "
            "the folder; copies of those are not found."
        )
    notes += context.remarks
    if real and real.value > COPIES:
        notes.append(
            f"{real.value:.0%} of the held-out images are as close to a training image as copies would be. If they are "
            "copies of training images (resized, or saved again), they are not held out: fidelity to them is too "
            "high, and they cannot say how many copies are usual."
        )
    return notes


def _doubts(data: EvaluationData, real: Estimate | None) -> list[str]:
    """Return why copies of training images might not be found."""
    doubts = []
    if not data.trained_on:
        doubts.append(UNKNOWN)
    elif not data.found:
        doubts.append(NO_TRACE)
    elif data.found < HALF * data.trained_on:
        doubts.append(
            f"generated images were compared with only {data.found:,} of the {data.trained_on:,} images that the model "
            "was trained on"
        )
    if real and real.value > COPIES:
        doubts.append(f"{real.value:.0%} of the held-out images look like copies themselves")
    return doubts


def _figure(matches: Matches, real: Estimate | None) -> Figure:
    reference = " For comparison: the same share of real images that were not trained on." if real else ""
    return Figure(
        matches.key,
        f"Memorised, {matches.label}",
        matches.share,
        real,
        "lower",
        percent=True,
        explanation="Share of images less than a third as far from the nearest training image (or its mirror image) as "
        "from the second nearest, in pixels or in features (arXiv:2310.02664); near-duplicates of the nearest are left "
        f"out.{reference}",
    )


def closest_pairs(matches: Matches) -> list[tuple[int, int, str]]:
    """Return (generated index, training index, feature space) of the closest pairs, closest first.

    Each training image appears only once.
    """
    neighbours = matches.neighbours
    ratio = torch.stack([one.ratio for one in neighbours.values()])
    names, found = list(neighbours), dict[int, tuple[int, int, str]]()
    for i in ratio.amin(0).argsort().tolist():
        where = names[int(ratio[:, i].argmin())]
        index = int(neighbours[where].index[i])
        found.setdefault(index, (i, index, where))
    return list(found.values())


def _grid(matches: Matches, training: Samples) -> ImageGrid:
    """Draw the images closest to a training image, each next to it."""
    images: list[Image.Image] = []
    labels: list[str] = []
    for i, index, where in closest_pairs(matches)[:SHOWN]:
        images += [*to_images(matches.samples.pixels[[i]]), *to_images(training.pixels[[index]])]
        labels += [f"generated ({matches.neighbours[where].ratio[i]:.2f} in {where})", "nearest training image"]
    grid = sample_grid(images, labels, columns=8, cell=max(96, training.pixels.shape[-1]))
    note = (
        "The closest first: the distance to the nearest training image over that to the second; below 0.33 counts as "
        "memorised. Each training image is shown once, next to the generated image closest to it."
    )
    return ImageGrid(f"Nearest training images, {matches.label}", grid, note)
