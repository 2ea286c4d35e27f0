"""Metrics for generated images as pure functions of tensors, with 95% ranges.

`kid`, `cmmd` and `precision_recall` compare two sets of features; `compare_sets` computes all of them over random
halves, together with the same figures for real images. `cosine_gain` and `r_precision` measure whether images follow
their prompts, `nearest` and `memorised` detect copies of training images, and `share` estimates a success rate.
"""

from captionless.evaluation.metrics.estimate import Estimate as Estimate
from captionless.evaluation.metrics.estimate import TooFewError as TooFewError
from captionless.evaluation.metrics.estimate import cluster_mean as cluster_mean
from captionless.evaluation.metrics.estimate import difference_low as difference_low
from captionless.evaluation.metrics.estimate import percentiles as percentiles
from captionless.evaluation.metrics.estimate import share as share
from captionless.evaluation.metrics.fidelity import MINIMUM as MINIMUM
from captionless.evaluation.metrics.fidelity import MINIMUM_MANIFOLD as MINIMUM_MANIFOLD
from captionless.evaluation.metrics.fidelity import Comparison as Comparison
from captionless.evaluation.metrics.fidelity import compare_sets as compare_sets
from captionless.evaluation.metrics.fidelity import paired_kid as paired_kid
from captionless.evaluation.metrics.fidelity import random_halves as random_halves
from captionless.evaluation.metrics.manifold import Manifold as Manifold
from captionless.evaluation.metrics.manifold import precision_recall as precision_recall
from captionless.evaluation.metrics.memorisation import ENOUGH_HELD_OUT as ENOUGH_HELD_OUT
from captionless.evaluation.metrics.memorisation import Neighbours as Neighbours
from captionless.evaluation.metrics.memorisation import memorised as memorised
from captionless.evaluation.metrics.memorisation import memorises as memorises
from captionless.evaluation.metrics.memorisation import nearest as nearest
from captionless.evaluation.metrics.mmd import cmmd as cmmd
from captionless.evaluation.metrics.mmd import kid as kid
from captionless.evaluation.metrics.mmd import mmd2 as mmd2
from captionless.evaluation.metrics.mmd import polynomial_kernel as polynomial_kernel
from captionless.evaluation.metrics.mmd import rbf_kernel as rbf_kernel
from captionless.evaluation.metrics.text_alignment import choice_count as choice_count
from captionless.evaluation.metrics.text_alignment import cosine_gain as cosine_gain
from captionless.evaluation.metrics.text_alignment import distinct_texts as distinct_texts
from captionless.evaluation.metrics.text_alignment import r_precision as r_precision
