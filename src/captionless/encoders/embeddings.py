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

    vectors: Vectors  # unit vectors in row order, float32 (n, width)
    computed: int  # number of vectors computed in this call; the others were read from the cache
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
    """Embed the images of a folder, using cached vectors where available, and read the images into arrays.

    The encoder receives the centre square of each image in RGB, at the original resolution but at most twice the
    encoder's input size, so that the encoder's own preprocessing does the final resizing. New vectors are written to
    the cache regularly and at the end, even after an interruption.

    Args:
        folder: the folder of images, searched recursively.
        encoder: a loaded encoder, a hub id, a local folder, ``bundled`` or ``auto``; ``auto`` selects the bundled
            encoder if the images are in its domain, else CLIP.
        sizes: side lengths of the square images to return, in pixels.
        grey: return images with one channel instead of three.
        cache: the cache folder; by default ``captionless.encoders.cache_folder()``.
        batch: number of images passed to the encoder together.
        progress: whether to show a progress bar (by default only in terminals and notebooks), or an object that
            receives messages and the number of files read.

    Returns:
        An object with one row per usable image in ``names`` (paths relative to the folder), ``digests`` (content
        hashes) and ``vectors``; ``pixels``, uint8 (n, size, size, channels) for each of ``sizes``; ``skipped``, the
        unusable files with reasons; and ``encoder``.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image, the encoder is not found or returns
            unusable vectors, or the cache cannot be written.
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
    """Encode the queued images into the cache, empty the queue, and return the number of images."""
    if not queue:
        return 0
    result = encoder.encode_images([Image.fromarray(image.full) for image in queue.values() if image.full is not None])
    vectors = np.asarray(result, dtype=np.float32)
    if vectors.shape != (len(queue), encoder.width) or not np.isfinite(vectors).all():
        raise CaptionlessError(
            f"the encoder {encoder.name} returned unusable vectors (shape {vectors.shape}, or not finite) for the "
            f"batch of images that starts with {next(iter(queue.values())).name}. Use another encoder."
        )
    for digest, vector in zip(queue, vectors, strict=True):
        cache.add(digest, vector)
    queue.clear()
    return len(vectors)
