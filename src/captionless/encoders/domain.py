"""Score how near images are to the photographs that an encoder was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Domain:
    """An encoder's training domain: reference photographs and the score threshold for belonging to it.

    Attributes:
        reference: unit image vectors of some of the photographs, (n, width) float32.
        neighbours: how many of the nearest references an image is compared with.
        threshold: a folder with at least this score, in -1..1, is in the encoder's domain.
    """

    reference: Tensor
    neighbours: int
    threshold: float

    def score(self, vectors: Tensor) -> float:
        """Score images given as unit image vectors, (n, width); the highest score is 1.

        An image's score is its mean cosine to the ``neighbours`` nearest references. A folder's score is the median of
        its images, so that a few outliers do not decide.
        """
        cosines = vectors.float() @ self.reference.T
        nearest = cosines.topk(min(self.neighbours, len(self.reference)), dim=1).values
        return float(nearest.mean(1).quantile(0.5))


def read_domain(folder: Path) -> Domain:
    """Read ``domain.safetensors`` of an encoder's folder.

    Raises:
        CaptionlessError: the file is missing or damaged.
    """
    from safetensors import safe_open

    path = folder / "domain.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            reference = file.get_tensor("reference").float()
        return Domain(reference, int(metadata["neighbours"]), float(metadata["threshold"]))
    except Exception as error:  # each kind of damage has an exception of its own
        raise CaptionlessError(
            f"the encoder's domain cannot be read from {path}. Choose an encoder with `encoder`, or install "
            "captionless again if this is the bundled one."
        ) from error
