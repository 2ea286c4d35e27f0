"""The reference classifier: trained on a part of the folder's images, tested on the rest, applied to generated ones."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.config.evaluation import ClassifierConfig
from captionless.evaluation.classifier.train import (
    MINIMUM,
    PixelClassifier,
    confusion,
    held_out_split,
    train_classifier,
)
from captionless.evaluation.data import ImageSet
from captionless.evaluation.metrics.estimate import Estimate, TooFewError, share
from captionless.progress import Progress


@dataclass(frozen=True)
class ReferenceClassifier:
    """A trained classifier of pixels with its accuracy on real images.

    Args:
        classifier: the network.
        classes: its labels, in the order of its outputs.
        by_class: for each class, its accuracy on held-out real images; None without any.
        left_out: labels of too few images to train on.
    """

    classifier: PixelClassifier
    classes: tuple[str, ...]
    by_class: tuple[Estimate | None, ...]
    left_out: tuple[str, ...] = ()

    def classify(self, pixels: Tensor) -> Tensor:
        """Return the index of each image's most probable class, int64 (n,).

        Args:
            pixels: uint8 (n, channels, side, side), of any side.
        """
        return self.classifier.predict(pixels).argmax(1)

    def ceiling(self, wanted: Tensor) -> Estimate | None:
        """Return its accuracy on held-out real images, with the classes in the proportions of ``wanted`` (n,).

        Some classes are easier than others, so generated and real images must be compared in the same proportions. The
        range combines those of the classes (MOVER; Zou and Donner, Statistics in Medicine 27, 2008). None where a class
        has no held-out image.
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


def train_reference(
    images: ImageSet,
    progress: Progress,
    *,
    seed: int = 0,
    flip: bool = True,
    config: ClassifierConfig | None = None,
) -> ReferenceClassifier:
    """Train a classifier on four fifths of the labelled images, and test it on the others.

    Args:
        images: real images; those without a label, or of a label with fewer than `MINIMUM` images, are left out.
        progress: receives remarks and the number of finished steps.
        seed: seed of the classifier's training.
        flip: whether horizontal flips preserve an image's label.
        config: training settings.

    Raises:
        TooFewError: fewer than 2 labels have enough images.
    """
    classes, left_out = learnable_labels(images)
    used = images.take([i for i, label in enumerate(images.labels) if label in classes])
    names = [label for label in used.labels if label]
    labels = torch.tensor([classes.index(label) for label in names])
    train, test = (torch.tensor(rows) for rows in held_out_split(used.digests, names))
    progress.say(f"Training the reference classifier on {len(train):,} images.")
    classifier = train_classifier(
        used.pixels[train], labels[train], len(classes), seed=seed, flip=flip, config=config, progress=progress
    )
    table = confusion(classifier.predict(used.pixels[test]), labels[test], len(classes))
    tests = [(int(row[i]), int(row.sum())) for i, row in enumerate(table)]
    return ReferenceClassifier(
        classifier, classes, tuple(share(*test) if test[1] else None for test in tests), left_out
    )


def learnable_labels(images: ImageSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels with enough images to train on, and those with too few, each in alphabetical order.

    Raises:
        TooFewError: fewer than 2 labels have enough images.
    """
    counts = Counter(label for label in images.labels if label)
    classes = tuple(sorted(label for label, count in counts.items() if count >= MINIMUM))
    if len(classes) < 2:
        raise TooFewError(
            f"a classifier needs 2 labels with {MINIMUM} images each, and the folder has {len(classes)} of them"
        )
    return classes, tuple(sorted(set(counts) - set(classes)))
