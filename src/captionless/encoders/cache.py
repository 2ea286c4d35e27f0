"""Cache image vectors on disk, keyed by the content hashes of encoder and image, so that each image is embedded once.

Layout: ``<folder>/vectors-2/<encoder digest>/part-<time>-<random>.safetensors``. Each flush writes a new part and
existing parts are never modified, so concurrent processes do not interfere with each other, and a crash loses only the
vectors that were not flushed.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from captionless.errors import CaptionlessError
from captionless.files import atomic_write

Vectors = NDArray[np.float32]

_LAYOUT = "vectors-2"


def cache_folder() -> Path:
    """Return the cache folder: ``$CAPTIONLESS_CACHE`` if set, or the default cache folder of the user."""
    return Path(os.environ.get("CAPTIONLESS_CACHE") or platformdirs.user_cache_path("captionless"))


class VectorCache:
    """A cache of the image vectors of one encoder.

    The vectors stay on disk and are memory-mapped. A damaged part is ignored with a warning, and its images count as
    not embedded.

    Args:
        folder: cache folder, shared by all encoders; created if missing.
        encoder_digest: content hash of the encoder.
        flush_every: number of added vectors that triggers an automatic flush.

    Raises:
        CaptionlessError: the folder cannot be created or listed.
    """

    def __init__(self, folder: str | Path, encoder_digest: str, *, flush_every: int = 2000) -> None:
        self.encoder_digest = encoder_digest
        self.folder = Path(folder) / _LAYOUT / encoder_digest
        self._flush_every = flush_every
        self._places: dict[str, tuple[Any, int]] = {}
        self._pending: dict[str, Vectors] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            parts = sorted(self.folder.glob("part-*.safetensors"))
        except OSError as error:
            raise CaptionlessError(
                f"cannot use the cache folder {folder}: {error.strerror or error}. "
                "Set the environment variable CAPTIONLESS_CACHE to another folder."
            ) from error
        for part in parts:
            self._open(part)

    def __len__(self) -> int:
        """Return the number of images with a cached vector."""
        return len(self._places.keys() | self._pending.keys())

    def get(self, digest: str) -> Vectors | None:
        """Return the vector of the image with this content hash, float32 (width,), or None if it is not cached."""
        if digest in self._pending:
            return self._pending[digest].copy()
        if digest not in self._places:
            return None
        part, row = self._places[digest]
        vector: Vectors = part.get_slice("vectors")[row]
        return vector

    def add(self, digest: str, vector: ArrayLike) -> None:
        """Add the vector of an image, which is written by the next `flush` (at the latest every ``flush_every``)."""
        self._pending[digest] = np.array(vector, dtype=np.float32)
        if len(self._pending) >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Write the vectors added since the last flush as a new part.

        Raises:
            CaptionlessError: the folder cannot be written to, or the disk is full; the vectors stay in memory.
        """
        if not self._pending:
            return
        part = self.folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex}.safetensors"
        with atomic_write(part) as temporary:
            save_file(
                {"vectors": np.stack([*self._pending.values()])}, temporary, {"digests": json.dumps([*self._pending])}
            )
        self._pending.clear()
        self._open(part)

    def _open(self, path: Path) -> None:
        """Index the images of a part without reading its vectors."""
        try:
            part: Any = safe_open(path, framework="np")
            digests = json.loads(part.metadata()["digests"])
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"a file of the vector cache is damaged, so its images will be embedded again; you can delete {path} "
                f"({error})",
                stacklevel=2,
            )
        else:
            self._places.update((digest, (part, row)) for row, digest in enumerate(digests))
