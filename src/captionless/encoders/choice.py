"""Choose an encoder for a folder of images: the bundled one if the images are in its domain, else CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image
from safetensors import safe_open

from captionless.data.images import sample_images
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.hub import BUNDLED, CLIP
from captionless.errors import CaptionlessError
from captionless.progress import Progress

AUTO = "auto"
_SAMPLE = 48
"""Number of images that the choice is based on."""


def choose_encoder(
    name: str, folder: str | Path, *, device: str = "cpu", progress: Progress | None = None
) -> tuple[Encoder, str]:
    """Load the encoder ``name``, or choose an encoder for the images if ``name`` is ``"auto"``.

    ``auto`` selects the bundled encoder if the images are in its domain (see `in_domain_score`), else `CLIP`.

    Args:
        name: ``"auto"``, or a name accepted by `load_encoder`.
        folder: the folder of images.
        device: the torch device to compute on.
        progress: receives a message with the download size before a download.

    Returns:
        The encoder, and its name with the reason for the choice, to be printed and recorded.

    Raises:
        CaptionlessError: as in `load_encoder`, or the encoder is ``auto`` and the folder has no usable image.
    """
    if name != AUTO:
        return load_encoder(name, device, progress=progress), f"{name}, as requested"
    images = sample_images(folder, _SAMPLE)
    bundled = load_encoder(BUNDLED, device)
    score, threshold = in_domain_score(bundled, images)
    figures = f"score {score:.2f}, threshold {threshold:.2f}"
    if score >= threshold:
        return bundled, f"bundled, because the images are in its domain ({figures})"
    reason = f"the images are outside the domain of the bundled encoder ({figures})"
    try:
        return load_encoder(CLIP, device, progress=progress), f"{CLIP}, because {reason}"
    except CaptionlessError as error:
        raise CaptionlessError(f"{reason}, and {error}") from error


def in_domain_score(encoder: Encoder, images: Sequence[Image]) -> tuple[float, float]:
    """Score how similar images are to the photographs that an encoder was trained on.

    The score of an image is its mean cosine similarity to its nearest neighbours among a sample of these photographs,
    whose vectors are stored in the encoder's ``domain.safetensors``. The score of several images is the median of their
    scores, which is robust to outliers.

    Returns:
        The score, in [-1, 1], and the minimum score of images in the encoder's domain.

    Raises:
        CaptionlessError: the encoder's domain file is missing (only the bundled encoder has one) or damaged.
    """
    path = encoder.folder / "domain.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            reference, about = file.get_tensor("reference").float(), file.metadata()
        neighbours, threshold = int(about["neighbours"]), float(about["threshold"])
    except Exception as error:  # the exception depends on the kind of damage
        raise CaptionlessError(
            f"the encoder's domain cannot be read from {path}. Choose an encoder with `encoder`, or "
            "reinstall captionless if this is the bundled encoder."
        ) from error
    cosines = encoder.encode_images(images) @ reference.T
    nearest = cosines.topk(min(neighbours, len(reference)), dim=1).values
    return float(nearest.mean(1).quantile(0.5)), threshold
