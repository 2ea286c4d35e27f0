"""A classifier trained only on labelled real images, and therefore independent of the encoder of the evaluated model.

`train_classifier` trains a classifier from scratch on pixels. `ReferenceClassifier` combines it with its accuracy on
real images of each class, which is the ceiling for its accuracy on generated images.
"""

from captionless.evaluation.classifier.reference import ReferenceClassifier as ReferenceClassifier
from captionless.evaluation.classifier.reference import train_reference as train_reference
from captionless.evaluation.classifier.train import PixelClassifier as PixelClassifier
from captionless.evaluation.classifier.train import accuracy as accuracy
from captionless.evaluation.classifier.train import confusion as confusion
from captionless.evaluation.classifier.train import held_out_split as held_out_split
from captionless.evaluation.classifier.train import train_classifier as train_classifier
