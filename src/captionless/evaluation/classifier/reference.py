"""The independent classifier at work: trained on a part of the folder, tested on the rest, asked about paintings."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.evaluation.classifier.train import (
    MINIMUM,
    PixelClassifier,
    confusion,
    held_out_split,
    train_classifier,
)
from captionless.evaluation.data import ImageSet
from captionless.evaluation.metrics.estimate import Estimate, TooFewError, share
from captionless.evaluation.report.results import Table
from captionless.progress import Progress


@dataclass(frozen=True)
class ReferenceClassifier:
    """A trained classifier of pixels.

    Args:
        classifier: the network.
        classes: the labels it knows, in the order of its answers.
        by_class: for each class, its accuracy on real pictures that it was not trained on; None without any.
        left_out: labels of too few pictures to learn from.
    """

    classifier: PixelClassifier
    classes: tuple[str, ...]
    by_class: tuple[Estimate | None, ...]
    left_out: tuple[str, ...] = ()

    def named(self, pixels: Tensor) -> Tensor:
        """Return the place of the class that it names each picture (n, channels, size, size) as, int64 (n,)."""
        return self.classifier.predict(pixels).argmax(1)

    def right(self, pixels: Tensor, wanted: Tensor) -> Tensor:
        """Return which pictures (n, channels, size, size) it names as ``wanted`` (n,)."""
        return self.named(pixels) == wanted

    def ceiling(self, wanted: Tensor) -> Estimate | None:
        """Return its accuracy on real pictures, the classes counting as often as in ``wanted`` (n,).

        A classifier may know some classes better than others, so paintings and real pictures must be of the same ones.
        The range combines those of the classes (MOVER; Zou and Donner, Statistics in Medicine 27, 2008). None where a
        class has no real picture to test with.
        """
        counts = torch.bincount(wanted, minlength=len(self.classes)).tolist()
        parts = [(count / len(wanted), one) for count, one in zip(counts, self.by_class, strict=True) if count]
        known = [(weight, one) for weight, one in parts if one is not None]
        if len(known) < len(parts):
            return None
        value = sum(weight * one.value for weight, one in known)
        below = math.hypot(*(weight * (one.value - one.low) for weight, one in known))
        above = math.hypot(*(weight * (one.high - one.value) for weight, one in known))
        return Estimate(value, max(0.0, value - below), min(1.0, value + above), sum(one.n for _, one in known))

    def table(self, pixels: Tensor, wanted: Tensor) -> Table:
        """Return what it sees in the pictures that were to show each class."""
        seen = confusion(self.classifier.predict(pixels), wanted, len(self.classes))
        rows = []
        for name, row, real in zip(self.classes, seen.tolist(), self.by_class, strict=True):
            if count := sum(row):
                named = f"{100 * real.value:.0f}% of {real.n}" if real else "–"
                rows.append((name, str(count), *(f"{100 * number / count:.0f}%" for number in row), named))
        return Table(
            "What the independent classifier sees",
            ("asked for", "pictures", *self.classes, "real pictures named rightly"),
            tuple(rows),
            "Each row: the pictures that were to show it, and the shares of them named as each label.",
        )


def train_reference(pictures: ImageSet, progress: Progress, *, seed: int = 0, flip: bool = True) -> ReferenceClassifier:
    """Train a classifier on a part of labelled pictures, chosen by content hash, and test it on the others.

    Args:
        pictures: real ones; those without a label, or with one of fewer than ``MINIMUM`` pictures, are left out.
        progress: receives how far the training is.
        seed: of the training.
        flip: whether a mirrored picture still shows the same.

    Raises:
        TooFewError: fewer than 2 labels have enough pictures.
    """
    classes, left_out = learnable_labels(pictures)
    some = pictures.take([i for i, label in enumerate(pictures.labels) if label in classes])
    names = [label for label in some.labels if label]
    labels = torch.tensor([classes.index(label) for label in names])
    learn, test = (torch.tensor(rows) for rows in held_out_split(some.digests, names))

    task = "Training the reference classifier"
    progress.say(f"{task} on {len(learn):,} images.")
    classifier = train_classifier(
        some.pixels[learn],
        labels[learn],
        len(classes),
        seed=seed,
        flip=flip,
        on_progress=partial(progress.advance, task),
    )
    table = confusion(classifier.predict(some.pixels[test]), labels[test], len(classes))
    tests = [(int(row[i]), int(row.sum())) for i, row in enumerate(table)]
    by_class = tuple(share(right, count) if count else None for right, count in tests)
    return ReferenceClassifier(classifier, classes, by_class, left_out)


def learnable_labels(pictures: ImageSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels of enough pictures to learn from, and those of too few, each in order.

    Raises:
        TooFewError: fewer than 2 labels have enough pictures.
    """
    counts = Counter(label for label in pictures.labels if label)
    classes = tuple(sorted(label for label, count in counts.items() if count >= MINIMUM))
    if len(classes) < 2:
        raise TooFewError(
            f"a classifier needs 2 labels with {MINIMUM} pictures each, and the folder has {len(classes)} of them"
        )
    return classes, tuple(sorted(set(counts) - set(classes)))


def mirrors_images(config: ModelConfig) -> bool:
    """Tell whether a picture and its mirror image show the same, by how the model was trained."""
    return bool(config.training.settings.get("flip", True))
