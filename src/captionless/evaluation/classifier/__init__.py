"""A classifier trained on labelled real images alone, which shares nothing with the encoder that a model learned from.

`train_classifier` trains one from scratch on pixels; `ReferenceClassifier` holds it together with its accuracy on real
images of each class, the ceiling of what it can recognise in generated ones.
"""

from captionless.evaluation.classifier.reference import ReferenceClassifier as ReferenceClassifier
from captionless.evaluation.classifier.reference import train_reference as train_reference
from captionless.evaluation.classifier.train import PixelClassifier as PixelClassifier
from captionless.evaluation.classifier.train import accuracy as accuracy
from captionless.evaluation.classifier.train import confusion as confusion
from captionless.evaluation.classifier.train import held_out_split as held_out_split
from captionless.evaluation.classifier.train import train_classifier as train_classifier
