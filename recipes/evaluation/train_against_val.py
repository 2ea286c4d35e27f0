"""Compute the figures of `captionless evaluate` for real photographs: one split compared with another.

    python recipes/evaluation/train_against_val.py --photos PHOTOS --size 32

PHOTOS contains ``train/<kind>/`` and ``val/<kind>/``. A random choice of photographs from ``train``, as many as
``val`` has, stands in for generated images. A model whose images score like these cannot be told from photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.data.arrays import read_arrays
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.features import own_features
from captionless.encoders.hub import BUNDLED
from captionless.evaluation.classifier import accuracy, train_classifier
from captionless.evaluation.metrics import (
    Estimate,
    compare_sets,
    cosine_gain,
    memorised,
    nearest,
    paired_kid,
    r_precision,
    share,
)
from captionless.evaluation.sections.fidelity import alterations
from captionless.generation.prompts import label_prompt
from captionless.generation.sample import to_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--size", type=int, default=32)
    chosen = parser.parse_args()
    encoder = load_encoder(BUNDLED)
    features = own_features(encoder)
    (train, train_kinds), (val, val_kinds) = (read(chosen.photos / part, chosen.size) for part in ("train", "val"))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: len(val)]
    val_features, train_features = (features.encode_images(to_images(pixels)) for pixels in (val, train))

    print(f"| {len(val)} photographs at {chosen.size} pixels | train against val | val against val |\n|---|---|---|")
    for one in compare_sets(val_features, train_features[order]):
        print(f"| {one.name} | {shown(one.model)} | {shown(one.real)} |")
    classes = sorted(set(train_kinds))
    targets = [torch.tensor([classes.index(kind) for kind in kinds]) for kinds in (train_kinds, val_kinds)]
    texts = F.normalize(encoder.encode_texts([label_prompt(kind).text for kind in classes]), dim=1)
    parts = (train_features[order], targets[0][order]), (val_features, targets[1])
    for name, measure, scale in (("cosine above shuffled", cosine_gain, 1), ("own prompt", r_precision, 100)):
        row = [shown(measure(F.normalize(seen, dim=1), texts, owner), scale) for seen, owner in parts]
        print(f"| {name} (out of {len(classes)} labels) | {' | '.join(row)} |")
    for label, altered in alterations(val):
        mark = paired_kid(val_features, features.encode_images(to_images(altered)))
        print(f"| kid of {label} | {shown(mark)} | |")
    mirrored = features.encode_images(to_images(train.flip(3)))
    flat, flipped = train.flatten(1).float(), train.flip(3).flatten(1).float()
    copies = memorised(nearest(val_features, train_features, mirrored))
    copies |= memorised(nearest(val.flatten(1).float(), flat, flipped))
    print(f"| memorised | | {shown(share(int(copies.sum()), len(val)), 100)} |")
    classifier = train_classifier(train, targets[0], len(classes))
    print(f"| recognised (trained on all of train) | | {shown(accuracy(classifier.predict(val), targets[1]), 100)} |")


def read(folder: Path, size: int) -> tuple[Tensor, list[str]]:
    """Return the images, uint8 (n, 3, size, size), and their kinds."""
    found = read_arrays(folder, (size,))
    return torch.from_numpy(found.pixels[size]).permute(0, 3, 1, 2), [name.split("/")[0] for name in found.names]


def shown(one: Estimate, scale: float = 1) -> str:
    """Write a value with its range."""
    return f"{scale * one.value:.3g} ({scale * one.low:.3g} to {scale * one.high:.3g})"


if __name__ == "__main__":
    main()
