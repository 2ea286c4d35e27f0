"""The independent classifier at work: trained on a part of the folder, tested on the rest, asked about paintings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captionless.evaluation.estimate import Estimate, TooFewError, share
from captionless.evaluation.evidence import Listener, Pictures
from captionless.evaluation.pixel_classifier import (
    PixelClassifier,
    accuracy,
    confusion,
    held_out_split,
    train_classifier,
)
from captionless.evaluation.results import Table


@dataclass(frozen=True)
class PixelJudge:
    """A trained classifier of pixels.

    Args:
        classifier: the network.
        classes: the labels it knows, in the order of its answers.
        ceiling: its accuracy on real pictures that it was not trained on.
        by_class: for each class, how many such pictures there were, and how many it named rightly.
    """

    classifier: PixelClassifier
    classes: tuple[str, ...]
    ceiling: Estimate
    by_class: tuple[tuple[int, int], ...]

    def recognised(self, pixels: Tensor, wanted: Tensor) -> Estimate:
        """Return the share of pictures (n, channels, size, size) that it names as ``wanted`` (n,)."""
        return accuracy(self.classifier.predict(pixels), wanted)

    def table(self, pixels: Tensor, wanted: Tensor) -> Table:
        """Return what it sees in the pictures that were to show each class."""
        seen = confusion(self.classifier.predict(pixels), wanted, len(self.classes))
        rows = []
        for i, name in enumerate(self.classes):
            count = int(seen[i].sum())
            if count:
                tests, right = self.by_class[i]
                real = f"{100 * right / tests:.0f}% of {tests}" if tests else "–"
                seen_as = [f"{100 * int(number) / count:.0f}%" for number in seen[i]]
                rows.append((name, str(count), *seen_as, real))
        return Table(
            "What the independent classifier sees",
            ("asked for", "pictures", *self.classes, "real pictures named rightly"),
            tuple(rows),
            "Each row: the pictures that were to show it, and the shares of them named as each label.",
        )


def train_judge(pictures: Pictures, listener: Listener, *, seed: int = 0, flip: bool = True) -> PixelJudge:
    """Train a classifier on a part of labelled pictures, chosen by content hash, and test it on the others.

    Args:
        pictures: real ones; those without a label are left out.
        listener: is told how far it is.
        seed: of the training.
        flip: whether a mirrored picture still shows the same.

    Raises:
        TooFewError: there are fewer than 2 labels, or too few pictures of one.
    """
    labelled = [i for i, label in enumerate(pictures.labels) if label]
    classes = tuple(sorted({label for label in pictures.labels if label}))
    if len(classes) < 2:
        raise TooFewError(f"the folder's pictures have {len(classes)} labels, and at least 2 are needed")
    some = pictures.take(labelled)
    names = [label for label in some.labels if label]
    labels = torch.tensor([classes.index(label) for label in names])
    learn, test = (torch.tensor(rows) for rows in held_out_split(some.digests, names))

    def on_progress(done: int, total: int) -> None:
        listener.progress("Training the independent classifier", done, total)

    classifier = train_classifier(some.pixels[learn], labels[learn], len(classes), seed=seed, on_progress=on_progress)
    answers = classifier.predict(some.pixels[test])
    table = confusion(answers, labels[test], len(classes))
    by_class = tuple((int(row.sum()), int(row[i])) for i, row in enumerate(table))
    right = sum(correct for _, correct in by_class)
    return PixelJudge(classifier, classes, share(right, len(test)), by_class)
