"""Cache image vectors on disk by the content hashes of encoder and image, so that each image is embedded once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from captionless.data.arrays import Visitor
from captionless.data.cache import cache_folder
from captionless.data.decode import BACKGROUND, DECODING, rgb
from captionless.data.images import ImageFile
from captionless.data.parts import Parts

__all__ = ["VectorCache", "Vectors", "cache_folder", "vector_key"]

Vectors = NDArray[np.float32]

_LAYOUT = "vectors-2"


class VectorCache(Parts):
    """A cache of the image vectors of one encoder; see `Parts`.

    Args:
        folder: cache folder, shared by all encoders; created if missing.
        encoder_digest: content hash of the encoder.

    Raises:
        CaptionlessError: the folder cannot be created or listed.
    """

    def __init__(self, folder: str | Path, encoder_digest: str) -> None:
        super().__init__(Path(folder) / _LAYOUT / encoder_digest, "vectors", flush_bytes=1 << 22)
        self.encoder_digest = encoder_digest

    def add(self, key: str, array: ArrayLike) -> None:
        """Add the vector of an image by its content hash; it is written by the next `flush`."""
        super().add(key, np.array(array, dtype=np.float32))


def vector_key(image: ImageFile, background: str) -> str:
    """Return the cache key of an image's vector, which depends on the background if it can be seen."""
    key = f"{image.digest} {DECODING}"
    return key if not image.transparent or rgb(background) == rgb(BACKGROUND) else f"{key} on {rgb(background)}"


class EncodingVisitor(Visitor, ABC):
    """Encodes the images that need their pixels in batches, while a folder is read.

    Args:
        side: side in pixels of the encoder's input; images are read at up to twice this size.
        background: colour behind transparent images.
        batch: number of images to encode together.
    """

    def __init__(self, side: int, background: str, batch: int) -> None:
        self.full, self._background, self._batch = 2 * side, background, batch
        self._queue: dict[str, Image.Image] = {}

    def key(self, image: ImageFile) -> str:
        """Return the cache key of an image's vector."""
        return vector_key(image, self._background)

    @abstractmethod
    def encode(self, keys: Sequence[str], images: Sequence[Image.Image]) -> None:
        """Encode images, and keep the results by their keys."""

    def visit(self, image: ImageFile) -> str:
        """Queue an image that is to be encoded, and encode the queue when it is a full batch."""
        if image.full is not None and self.needs_pixels(image):
            self._queue[self.key(image)] = Image.fromarray(image.full)
        if len(self._queue) == self._batch:
            self.finish()
        return ""

    def finish(self) -> None:
        """Encode the queued images, and empty the queue."""
        if self._queue:
            self.encode([*self._queue], [*self._queue.values()])
            self._queue.clear()
