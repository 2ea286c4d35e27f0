"""Pure functions of tensors that measure generated images, each with its 95% range.

`kid`, `cmmd`, `frechet_distance` and `precision_recall` compare two sets of features; `compare_sets` gives all of them
for random halves, with the same figures of real images. `cosine_gain` and `r_precision` measure whether images follow
their prompts, `nearest` and `memorised` whether they are copies of training images, `share` any rate of successes.
"""

from captionless.evaluation.metrics.estimate import (
    Estimate,
    TooFewError,
    cluster_mean,
    difference_low,
    percentiles,
    share,
)
from captionless.evaluation.metrics.fidelity import MINIMUM, Comparison, compare_sets, paired_kid, random_halves
from captionless.evaluation.metrics.frechet import frechet_distance
from captionless.evaluation.metrics.manifold import Manifold, precision_recall
from captionless.evaluation.metrics.memorisation import ENOUGH_HELD_OUT, Neighbours, memorised, memorises, nearest
from captionless.evaluation.metrics.mmd import cmmd, kid, mmd2, polynomial_kernel, rbf_kernel
from captionless.evaluation.metrics.text_alignment import choice_count, cosine_gain, distinct_texts, r_precision

__all__ = [
    "ENOUGH_HELD_OUT",
    "MINIMUM",
    "Comparison",
    "Estimate",
    "Manifold",
    "Neighbours",
    "TooFewError",
    "choice_count",
    "cluster_mean",
    "cmmd",
    "compare_sets",
    "cosine_gain",
    "difference_low",
    "distinct_texts",
    "frechet_distance",
    "kid",
    "memorised",
    "memorises",
    "mmd2",
    "nearest",
    "paired_kid",
    "percentiles",
    "polynomial_kernel",
    "precision_recall",
    "r_precision",
    "random_halves",
    "rbf_kernel",
    "share",
]
