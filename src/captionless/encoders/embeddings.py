"""Embed a folder of images: one vector per image, computed once and then cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.images import ImageFile
from captionless.device import default_device
from captionless.encoders.cache import VectorCache, Vectors, cache_folder
from captionless.encoders.choice import AUTO, choose_encoder
from captionless.encoders.dual_encoder import Encoder
from captionless.errors import CaptionlessError
from captionless.progress import Progress, choose_progress


@dataclass(frozen=True, eq=False)
class EmbeddedImages(ImageArrays):
    """The usable images of a folder with their vectors."""

    vectors: Vectors  # unit vectors, float32 (n, width), one for each image
    computed: int  # how many were computed now; the others came from the cache
    encoder: Encoder


def embed(
    folder: str | Path,
    encoder: Encoder | str | Path = AUTO,
    *,
    sizes: Sequence[int] = (),
    grey: bool = False,
    cache: str | Path | None = None,
    batch: int = 64,
    progress: Progress | bool | None = None,
) -> EmbeddedImages:
    """Read a folder once: its images' vectors, from the cache or else from the encoder, and the images as arrays.

    The encoder reads each image's centre square in colour, at the image's own resolution up to twice the encoder's, so
    that the encoder's own resizing decides. New vectors are written to the cache from time to time and at the end, also
    when the end is an interruption.

    Args:
        folder: searched with its sub-folders.
        encoder: a loaded encoder; or a hub id, a local folder, ``bundled`` or ``auto``: the bundled encoder if the
            images are in its domain, else CLIP.
        sizes: sides of the square images to return, in pixels.
        grey: return them with one channel instead of three.
        cache: the folder where vectors are kept; by default ``captionless.encoders.cache_folder()``.
        batch: images to encode at a time.
        progress: True draws a progress bar, False does not; by default terminals and notebooks do. Or an object that
            receives remarks and the number of files read.

    Returns:
        ``names`` (paths inside the folder), ``digests`` (content hashes) and ``vectors``, a row for each of the n
        usable images; ``pixels``, uint8 (n, size, size, channels) for each of ``sizes``; ``skipped``, the files that
        are no usable images, with reasons; and ``encoder``.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image, the encoder is not found or gives unusable
            vectors, or the cache cannot be written.
    """
    progress = choose_progress(progress)
    if isinstance(encoder, str | Path):
        encoder, reason = choose_encoder(str(encoder), folder, device=str(default_device()), progress=progress)
        progress.say(f"Encoder: {reason}.")
    known = VectorCache(cache or cache_folder(), encoder.digest)
    queue: dict[str, ImageFile] = {}
    computed = 0

    def visit(image: ImageFile) -> str:
        nonlocal computed
        if known.get(image.digest) is None:
            queue[image.digest] = image
        if len(queue) == batch:
            computed += _encode(queue, encoder, known)
        return ""

    try:
        found = read_arrays(folder, sizes, grey=grey, full=2 * encoder.image_size, visit=visit, progress=progress)
        computed += _encode(queue, encoder, known)
    finally:
        known.flush()
    vectors = np.stack([vector for digest in found.digests if (vector := known.get(digest)) is not None])
    return EmbeddedImages(found.entries, found.pixels, vectors, computed, encoder)


def _encode(queue: dict[str, ImageFile], encoder: Encoder, cache: VectorCache) -> int:
    """Encode the images of the queue into the cache, and empty the queue; return how many there were."""
    if not queue:
        return 0
    result = encoder.encode_images([Image.fromarray(image.full) for image in queue.values() if image.full is not None])
    vectors = np.asarray(result, dtype=np.float32)
    if vectors.shape != (len(queue), encoder.width) or not np.isfinite(vectors).all():
        raise CaptionlessError(
            f"the encoder {encoder.name} gave unusable vectors (shape {vectors.shape}, or not finite) for "
            f"{next(iter(queue.values())).name} and the images after it. Use another encoder."
        )
    for digest, vector in zip(queue, vectors, strict=True):
        cache.add(digest, vector)
    queue.clear()
    return len(vectors)
