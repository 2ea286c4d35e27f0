"""A classifier trained on labelled real images alone, which shares nothing with the encoder that a model learned from.

`train_classifier` trains one from scratch on pixels; `ReferenceClassifier` holds it together with its accuracy on real
images of each class, the ceiling of what it can recognise in generated ones.
"""

from captionless.evaluation.classifier.reference import (
    ReferenceClassifier,
    learnable_labels,
    train_reference,
)
from captionless.evaluation.classifier.train import (
    PixelClassifier,
    accuracy,
    confusion,
    held_out_split,
    train_classifier,
)

__all__ = [
    "PixelClassifier",
    "ReferenceClassifier",
    "accuracy",
    "confusion",
    "held_out_split",
    "learnable_labels",
    "train_classifier",
    "train_reference",
]
