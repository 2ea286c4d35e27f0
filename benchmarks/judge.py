"""Judge images of any library by one measure: KID to held-out photographs and, with classes, a classifier's verdict."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.peers.peer import image_paths, read_square, to_uint8
from captionless.data.images import is_held_out
from captionless.encoders import load_features
from captionless.evaluation.classifier import ReferenceClassifier, train_reference
from captionless.evaluation.data import ImageSet
from captionless.evaluation.metrics import kid
from captionless.progress import Silent

HELD_OUT = 0.2
"""Share of the images that no library is trained on."""


def split(folder: Path, work: Path) -> tuple[Path, Path]:
    """Copy a folder of images, with its sub-folders, into a training folder and a held-out folder below ``work``."""
    targets = work / "train", work / "held-out"
    if not targets[0].is_dir():
        for path in image_paths(folder):
            target = targets[is_held_out(_digest(path), HELD_OUT)] / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return targets


class Judge:
    """Compares images with the photographs of a folder.

    Args:
        folder: photographs, one sub-folder per class; the held-out ones of `split`, if the classifier is asked.
        size: side of the images in pixels.
        features: the feature extractor of KID, see ``captionless.encoders.load_features``. The bundled encoder also
            made the conditions of captionless and of the course's recipe, so it is not independent of them.
    """

    def __init__(self, folder: Path, size: int, features: str = "bundled") -> None:
        self.folder, self.size, self.features = folder, size, load_features(features)

    @cached_property
    def real(self) -> Tensor:
        """The features of the photographs, (n, d)."""
        return self._features(_read(image_paths(self.folder), self.size))

    def kid(self, images: np.ndarray) -> float:
        """Return KID x 1000 between images, uint8 (n, size, size, 3), and the photographs; unbiased."""
        return 1000 * kid(self.real, self._features(images))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of images that the reference classifier assigns to the class with their index."""
        return float((self._classifier.classify(_channels_first(images)) == torch.from_numpy(labels)).float().mean())

    @cached_property
    def _classifier(self) -> ReferenceClassifier:
        paths = image_paths(self.folder.parent)  # those that the libraries were trained on, too
        names, digests = tuple(map(str, paths)), tuple(map(_digest, paths))
        pixels, labels = _channels_first(_read(paths, self.size)), tuple(path.parent.name for path in paths)
        return train_reference(ImageSet(names, digests, pixels, torch.zeros(len(pixels), 1), labels), Silent())

    def _features(self, pixels: np.ndarray) -> Tensor:
        return self.features.encode_images([Image.fromarray(one) for one in pixels])


@cache
def judge(folder: Path, size: int, features: str) -> Judge:
    """Return the judge of these photographs, the same one for the same arguments: it has a classifier to train."""
    return Judge(folder, size, features)


def _read(paths: Sequence[Path], size: int) -> np.ndarray:
    """Return images as uint8 (n, size, size, 3)."""
    return to_uint8(torch.stack([read_square(path, size) for path in paths]))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _channels_first(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).contiguous()
