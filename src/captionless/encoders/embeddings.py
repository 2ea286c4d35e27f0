"""Embed a folder of images: one vector per image, computed once and then cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from captionless.data.arrays import ImageArrays, read_arrays
from captionless.data.cache import cache_folder, mapped_array
from captionless.data.decode import BACKGROUND
from captionless.data.images import ImageFile
from captionless.device import default_device
from captionless.encoders.cache import EncodingVisitor, VectorCache, Vectors
from captionless.encoders.choice import AUTO, choose_encoder
from captionless.encoders.dual_encoder import Encoder
from captionless.errors import CaptionlessError
from captionless.progress import Progress, choose_progress


@dataclass(frozen=True, eq=False)
class EmbeddedImages(ImageArrays):
    """The usable images of a folder with their vectors."""

    vectors: Vectors  # unit vectors in row order, float32 (n, width), memory-mapped
    computed: int  # number of vectors computed in this call; the others were read from the cache
    encoder: Encoder


def embed(
    folder: str | Path,
    encoder: Encoder | str | Path = AUTO,
    *,
    sizes: Sequence[int] = (),
    grey: bool = False,
    background: str = BACKGROUND,
    verify: bool = False,
    batch: int = 64,
    progress: Progress | bool | None = None,
) -> EmbeddedImages:
    """Embed the images of a folder, using cached vectors where available, and read the images into arrays.

    The encoder receives the centre square of each image in RGB, at the original resolution but at most twice the
    encoder's input size, so that the encoder's own preprocessing does the final resizing. New vectors are written to
    the cache regularly and at the end, even after an interruption. Files whose size and time of change are known are
    not read again.

    Args:
        folder: the folder of images, searched recursively.
        encoder: a loaded encoder, a hub id, a local folder, ``bundled`` or ``auto``; ``auto`` selects the bundled
            encoder if the images are in its domain, else CLIP if it is in the local hub cache.
        sizes: side lengths of the square images to return, in pixels.
        grey: return images with one channel instead of three.
        background: colour behind transparent images: a name or #rrggbb.
        verify: read every file again, to notice changes that left its size and time of change as they were.
        batch: number of images passed to the encoder together.
        progress: whether to show a progress bar (by default only in terminals and notebooks), or an object that
            receives messages and the number of files read.

    Returns:
        An object with one row per usable image in ``names`` (paths relative to the folder), ``digests`` (content
        hashes) and ``vectors``; ``pixels``, uint8 (n, size, size, channels) for each of ``sizes``; ``skipped``, the
        unusable files with reasons; and ``encoder``.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image, the encoder is not found or returns
            unusable vectors, or the disk of the cache folder is full.
    """
    progress = choose_progress(progress)
    if isinstance(encoder, str | Path):
        device = str(default_device())
        encoder, reason = choose_encoder(str(encoder), folder, device=device, progress=progress)
        progress.say(f"Encoder: {reason}.")
    embedding = _Embedding(encoder, background, batch, cache_folder())
    try:
        found = read_arrays(
            folder, sizes, grey=grey, background=background, verify=verify, visitor=embedding, progress=progress
        )
        embedding.finish()
    finally:
        embedding.known.flush()
    return EmbeddedImages(
        found.entries,
        found.sizes,
        found.grey,
        found.cache,
        found.progress,
        embedding.vectors(found.images),
        embedding.computed,
        encoder,
    )


def encode_batch(encoder: Encoder, images: Sequence[Image.Image]) -> Vectors:
    """Return the vectors of images, float32 (n, width), and raise a `CaptionlessError` if they are unusable."""
    vectors = np.asarray(encoder.encode_images(images), dtype=np.float32)
    if vectors.shape != (len(images), encoder.width) or not np.isfinite(vectors).all():
        raise CaptionlessError(
            f"the encoder {encoder.name} returned unusable vectors (shape {vectors.shape}, or not finite) for a batch "
            f"of {len(images)} images. Use another encoder."
        )
    return vectors


class _Embedding(EncodingVisitor):
    """Encodes the images whose vectors are not in the cache yet."""

    def __init__(self, encoder: Encoder, background: str, batch: int, cache: Path) -> None:
        super().__init__(encoder.image_size, background, batch)
        self.encoder, self.computed = encoder, 0
        self.known, self._cache = VectorCache(cache, encoder.digest), cache

    def needs_pixels(self, image: ImageFile) -> bool:
        """Return whether the image has no vector yet."""
        return self.key(image) not in self.known

    def encode(self, keys: Sequence[str], images: Sequence[Image.Image]) -> None:
        """Encode images into the cache."""
        vectors = encode_batch(self.encoder, images)
        for key, vector in zip(keys, vectors, strict=True):
            self.known.add(key, vector)
        self.computed += len(vectors)

    def vectors(self, images: Sequence[ImageFile]) -> Vectors:
        """Return the vectors of images, float32 (n, width), memory-mapped."""
        keys = [self.key(image) for image in images]
        shape = (len(keys), self.encoder.width)

        def rows() -> Iterator[Vectors]:
            return (vector for key in keys if (vector := self.known.get(key)) is not None)

        return mapped_array(self._cache, [self.encoder.digest, *keys], shape, np.float32, rows)
