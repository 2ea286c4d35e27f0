"""What an encoder knows: how near pictures lie to the photographs it was taught on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Domain:
    """Image vectors of photographs an encoder was taught on, and how near is near enough.

    Attributes:
        reference: unit image vectors, (n, width) float32.
        neighbours: how many of the nearest references a picture is compared with.
        threshold: a folder is in the encoder's domain when its score is at least this, in -1..1.
    """

    reference: Tensor
    neighbours: int
    threshold: float

    def score(self, vectors: Tensor) -> float:
        """Score pictures given as unit image vectors, (n, width); 1 is as near as can be.

        A picture's score is its mean cosine to the ``neighbours`` nearest references, a folder's score the
        median of its pictures, so that a few stray pictures do not decide.
        """
        cosines = vectors.float() @ self.reference.T
        nearest = cosines.topk(min(self.neighbours, len(self.reference)), dim=1).values
        return float(nearest.mean(1).quantile(0.5))


def read_domain(folder: Path) -> Domain:
    """Read ``domain.safetensors`` of an encoder folder.

    Raises:
        CaptionlessError: the file is missing or damaged.
    """
    from safetensors import safe_open

    path = folder / "domain.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            reference = file.get_tensor("reference").float()
        return Domain(reference, int(about["neighbours"]), float(about["threshold"]))
    except Exception as error:  # each kind of damage comes as an exception of another library
        raise CaptionlessError(
            f"what the encoder knows cannot be read from {path}. Name an encoder with --encoder, "
            "or install captionless again if this is the bundled one."
        ) from error
