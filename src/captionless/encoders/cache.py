"""Image vectors kept on disk, so that a picture is embedded once; keyed by its content and the encoder's.

Layout: ``<folder>/vectors-1/<encoder digest>/part-<time>-<random>.parquet``. Each flush adds a part and no part
is ever changed, so processes that embed at the same time cannot harm each other, and a crash loses only what
was not flushed. A part's columns are ``path``, ``digest``, ``vector`` and ``encoder``; its schema's metadata
names the encoder too, and that is checked on reading.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
import warnings
from collections import OrderedDict
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
_PARTS_IN_MEMORY = 32


def cache_folder() -> Path:
    """Where vectors are kept: ``$CAPTIONLESS_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("CAPTIONLESS_CACHE") or platformdirs.user_cache_path("captionless"))


class VectorCache:
    """The vectors that one encoder gave so far.

    A part that is damaged, or of another encoder, is set aside (renamed to ``.damaged``) with a warning; its
    pictures count as not embedded.

    Args:
        folder: cache folder, shared by all encoders; made when missing.
        encoder_digest: content hash of the encoder, the key that all vectors here belong to.
        encoder_name: what the encoder was called, for people who read the Parquet files.

    Raises:
        CaptionlessError: the folder cannot be made or listed.
    """

    def __init__(self, folder: str | Path, encoder_digest: str, encoder_name: str = "") -> None:
        if not re.fullmatch(r"\w[\w.-]{0,200}", encoder_digest):
            raise ValueError(f"{encoder_digest!r} is no digest")
        self.encoder_digest = encoder_digest
        self.encoder_name = encoder_name
        self.folder = Path(folder) / _LAYOUT / encoder_digest
        self._places: dict[str, tuple[Path, int]] = {}
        self._loaded: OrderedDict[Path, Vectors] = OrderedDict()
        self._pending: dict[str, tuple[str, Vectors]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            parts = sorted(self.folder.glob("part-*.parquet"))
        except OSError as error:
            raise CaptionlessError(
                f"cannot use the cache folder {folder}: {error.strerror or error}. "
                "Name another one in the environment variable CAPTIONLESS_CACHE."
            ) from error
        for part in parts:
            self._index(part)

    def __len__(self) -> int:
        """How many pictures have a vector here."""
        return len(self._places.keys() | self._pending.keys())

    def __contains__(self, digest: object) -> bool:
        """Whether the picture with this content has a vector here (unless its part proves damaged)."""
        return digest in self._pending or digest in self._places

    @property
    def pending(self) -> int:
        """How many vectors the next `flush` will write."""
        return len(self._pending)

    def get(self, digest: str) -> Vectors | None:
        """The vector, float32 (width,), of the picture with this content; None when it must be embedded."""
        if digest in self._pending:
            return self._pending[digest][1].copy()
        if (place := self._places.get(digest)) is None or (vectors := self._load(place[0])) is None:
            return None
        vector: Vectors = vectors[place[1]].copy()
        return vector

    def add(self, digest: str, name: str, vector: ArrayLike) -> None:
        """Remember a picture's vector; on disk after the next `flush`.

        Raises:
            ValueError: the vector is not one-dimensional or not finite.
        """
        row = np.array(vector, dtype=np.float32)
        if row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError(f"the vector of {name} is not a finite vector: shape {row.shape}")
        self._pending[digest] = (name, row)

    def flush(self) -> None:
        """Write what was added since the last time as a new part.

        Raises:
            CaptionlessError: the folder cannot be written to, or the disk is full; nothing is forgotten.
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
        """Note which pictures a part holds, without reading its vectors."""
        try:
            table = pq.read_table(part, columns=["digest"], page_checksum_verification=True)
            self._check_encoder(table.schema)
            digests = table.column("digest").to_pylist()
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            self._set_aside(part, error)
        else:
            self._places.update((digest, (part, row)) for row, digest in enumerate(digests))

    def _load(self, part: Path) -> Vectors | None:
        """A part's vectors; None (and the part is forgotten) when it cannot be read."""
        if part in self._loaded:
            self._loaded.move_to_end(part)
            return self._loaded[part]
        try:
            table = pq.read_table(part, columns=["vector"], page_checksum_verification=True)
            self._check_encoder(table.schema)
            column = table.column("vector").combine_chunks()
            vectors: Vectors = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
            if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
                raise ValueError("its vectors are not finite float32 numbers")
        except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
            self._set_aside(part, error)
            self._places = {digest: at for digest, at in self._places.items() if at[0] != part}
            return None
        self._remember(part, vectors)
        return vectors

    def _remember(self, part: Path, vectors: Vectors) -> None:
        self._loaded[part] = vectors
        while len(self._loaded) > _PARTS_IN_MEMORY:
            self._loaded.popitem(last=False)

    def _check_encoder(self, schema: pa.Schema) -> None:
        if (schema.metadata or {}).get(_ENCODER, b"").decode("utf-8", "replace") != self.encoder_digest:
            raise ValueError("it is of another encoder")

    def _set_aside(self, part: Path, error: Exception) -> None:
        with contextlib.suppress(OSError):  # in a read-only cache it will be met, and warned of, again
            part.rename(part.with_suffix(".damaged"))
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"a part of the vector cache is not usable and was set aside; its pictures are embedded again: {part} "
            f"({reason})",
            stacklevel=2,
        )
