"""The reference classifier, which is trained and tested on real images and then applied to generated images."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
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
    """A trained pixel classifier with its accuracy on real images.

    Args:
        classifier: the trained classifier.
        classes: the labels, in the order of the classifier's outputs.
        by_class: accuracy on the held-out real images of each class; None for a class without held-out images.
    """

    classifier: PixelClassifier
    classes: tuple[str, ...]
    by_class: tuple[Estimate | None, ...]

    def classify(self, pixels: Tensor) -> Tensor:
        """Return the index of the most probable class of each image, int64 (n,).

        Args:
            pixels: images of any size, uint8 (n, channels, side, side).
        """
        return self.classifier.predict(pixels).argmax(1)

    def ceiling(self, wanted: Tensor) -> Estimate | None:
        """Return the accuracy on held-out real images, with classes weighted by their frequency in ``wanted`` (n,).

        Some classes are easier than others, so generated and real images must be compared with the same class
        frequencies. The range combines the ranges of the classes (MOVER; Zou and Donner, Statistics in Medicine 27,
        2008). The result is None if a wanted class has no held-out image.
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
    """Train a classifier on four fifths of the labelled images, and test it on the rest.

    Args:
        images: real images. Images without a label and classes with fewer than `MINIMUM` images are left out. Images
            with identical pixels are used only once, so that no test image is also a training image.
        progress: receives messages and the number of finished steps.
        seed: seed of the classifier's training.
        flip: whether horizontal flips preserve an image's label.
        config: training settings.

    Raises:
        TooFewError: fewer than 2 labels have enough images.
    """
    rows = images.pixels.flatten(1).numpy()
    different = images.take(sorted(np.unique(rows, axis=0, return_index=True)[1].tolist()))
    counts = Counter(label for label in different.labels if label)
    classes = tuple(sorted(label for label, count in counts.items() if count >= MINIMUM))
    if len(classes) < 2:
        raise TooFewError(
            f"a classifier needs 2 labels with at least {MINIMUM} different images each, but the folder has "
            f"{len(classes)}. Put the images of each class into a separate sub-folder, or provide a table of labels: "
            "`labels=FILE.csv`"
        )
    used = different.take([i for i, label in enumerate(different.labels) if label in classes])
    names = [label for label in used.labels if label]
    labels = torch.tensor([classes.index(label) for label in names])
    train, test = (torch.tensor(rows) for rows in held_out_split(used.digests, names))
    progress.say(f"Training the reference classifier on {len(train):,} images.")
    classifier = train_classifier(
        used.pixels[train], labels[train], len(classes), seed=seed, flip=flip, config=config, progress=progress
    )
    table = confusion(classifier.predict(used.pixels[test]), labels[test], len(classes))
    tests = tuple(share(int(row[i]), int(row.sum())) for i, row in enumerate(table))
    return ReferenceClassifier(classifier, classes, tests)
