"""Keep image vectors on disk, keyed by the content of image and encoder, so that an image is embedded once.

Layout: ``<folder>/vectors-1/<encoder digest>/part-<time>-<random>.parquet``. Each flush adds a part and no part is ever
changed, so processes that embed at the same time cannot harm each other, and a crash loses only what was not flushed. A
part has the columns ``path``, ``digest``, ``vector`` and ``encoder``; its schema's metadata name the encoder too, which
is checked on reading.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from captionless.errors import CaptionlessError
from captionless.files import atomic_write

Vectors = NDArray[np.float32]

_ENCODER = b"captionless.encoder"
_LAYOUT = "vectors-1"


def cache_folder() -> Path:
    """Return the folder of the cache: ``$CAPTIONLESS_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("CAPTIONLESS_CACHE") or platformdirs.user_cache_path("captionless"))


class VectorCache:
    """The image vectors that one encoder has computed.

    A part that is damaged or belongs to another encoder is set aside (renamed to ``.damaged``) with a warning; its
    images count as not embedded.

    Args:
        folder: cache folder, shared by all encoders; created if missing.
        encoder_digest: content hash of the encoder.
        encoder_name: name of the encoder, for people who read the Parquet files.
        also: earlier digests of the same encoder, whose vectors are read too.
        flush_every: vectors added before they are written by themselves.
        parts_in_memory: parts whose vectors are kept in memory, the latest used.

    Raises:
        CaptionlessError: the folder cannot be created or listed.
    """

    def __init__(
        self,
        folder: str | Path,
        encoder_digest: str,
        encoder_name: str = "",
        *,
        also: Collection[str] = (),
        flush_every: int = 2000,
        parts_in_memory: int = 32,
    ) -> None:
        if not re.fullmatch(r"\w[\w.-]{0,200}", encoder_digest):
            raise ValueError(f"{encoder_digest!r} is no digest")
        self.encoder_digest = encoder_digest
        self.encoder_name = encoder_name
        self.folder = Path(folder) / _LAYOUT / encoder_digest
        self._read = (*also, encoder_digest)
        self._flush_every, self._parts_in_memory = flush_every, parts_in_memory
        self._places: dict[str, tuple[Path, int]] = {}
        self._loaded: OrderedDict[Path, Vectors] = OrderedDict()
        self._pending: dict[str, tuple[str, Vectors]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            parts = [part for key in self._read for part in sorted(self.folder.with_name(key).glob("part-*.parquet"))]
        except OSError as error:
            raise CaptionlessError(
                f"cannot use the cache folder {folder}: {error.strerror or error}. "
                "Set the environment variable CAPTIONLESS_CACHE to another one."
            ) from error
        for part in parts:
            self._index(part)

    def __len__(self) -> int:
        """Return how many images have a vector here."""
        return len(self._places.keys() | self._pending.keys())

    def __contains__(self, digest: object) -> bool:
        """Return whether the image with this content has a vector here (unless its part proves damaged)."""
        return digest in self._pending or digest in self._places

    def get(self, digest: str) -> Vectors | None:
        """Return the vector, float32 (width,), of the image with this content; None if it must be embedded."""
        if digest in self._pending:
            return self._pending[digest][1].copy()
        if (place := self._places.get(digest)) is None or (vectors := self._load(place[0])) is None:
            return None
        vector: Vectors = vectors[place[1]].copy()
        return vector

    def add(self, digest: str, name: str, vector: ArrayLike) -> None:
        """Add an image's vector; it is on disk after the next `flush`, which happens every ``flush_every`` vectors.

        Raises:
            ValueError: the vector is not one-dimensional or not finite.
        """
        row = np.array(vector, dtype=np.float32)
        if row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError(f"the vector of {name} is not a finite vector: shape {row.shape}")
        self._pending[digest] = (name, row)
        if len(self._pending) >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Write the vectors added since the last flush as a new part.

        Raises:
            CaptionlessError: the folder cannot be written to, or the disk is full; the vectors stay in memory.
        """
        if not self._pending:
            return
        digests = list(self._pending)
        names = [name for name, _ in self._pending.values()]
        vectors = np.stack([vector for _, vector in self._pending.values()])
        columns = {
            "path": pa.array(names, pa.string()),
            "digest": pa.array(digests, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            "encoder": pa.array([self.encoder_name or self.encoder_digest] * len(names), pa.string()),
        }
        table = pa.table(columns, metadata={_ENCODER: self.encoder_digest.encode()})
        part = self.folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex}.parquet"
        with atomic_write(part) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)
        self._pending.clear()
        self._remember(part, vectors)
        self._places.update((digest, (part, row)) for row, digest in enumerate(digests))

    def _index(self, part: Path) -> None:
        """Record which images a part holds, without reading its vectors."""
        try:
            digests = self._column(part, "digest").to_pylist()
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            self._set_aside(part, error)
        else:
            self._places.update((digest, (part, row)) for row, digest in enumerate(digests))

    def _load(self, part: Path) -> Vectors | None:
        """Return a part's vectors; None (and the part is forgotten) if it cannot be read."""
        if part in self._loaded:
            self._loaded.move_to_end(part)
            return self._loaded[part]
        try:
            column = self._column(part, "vector").combine_chunks()
            vectors: Vectors = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
            if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
                raise ValueError("its vectors are not finite float32 numbers")
        except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
            self._set_aside(part, error)
            self._places = {digest: at for digest, at in self._places.items() if at[0] != part}
            return None
        self._remember(part, vectors)
        return vectors

    def _column(self, part: Path, name: str) -> pa.ChunkedArray:
        table = pq.read_table(part, columns=[name], page_checksum_verification=True)
        if (table.schema.metadata or {}).get(_ENCODER, b"").decode("utf-8", "replace") not in self._read:
            raise ValueError("it belongs to another encoder")
        return table.column(name)

    def _remember(self, part: Path, vectors: Vectors) -> None:
        self._loaded[part] = vectors
        while len(self._loaded) > self._parts_in_memory:
            self._loaded.popitem(last=False)

    def _set_aside(self, part: Path, error: Exception) -> None:
        with contextlib.suppress(OSError):  # in a read-only cache it stays, and each run warns again
            part.rename(part.with_suffix(".damaged"))
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"a part of the vector cache is unusable and was set aside; its images are embedded again: {part} "
            f"({reason})",
            stacklevel=2,
        )
