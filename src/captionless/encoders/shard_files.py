"""Write the vectors of a shard of images as a Parquet file, and read them for training.

Each file of the shard has one row: ``file``, ``key`` (see `vector_key`), ``width`` and ``height`` in pixels, and
``vector``; or ``file`` and ``skipped``, the reason why it has no vector.

Between the columns and the footer of the Parquet file, where readers look for nothing, lies its seal: the SHA-256 of
the footer and of each column. What is read is compared with it first, because a flipped bit in a length can make a
decoder ask for gigabytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from captionless.data.cache import cache_folder, mapped_array
from captionless.data.images import ImageFile, SkippedFile
from captionless.data.parquet import import_pyarrow
from captionless.encoders.cache import Vectors, vector_key
from captionless.encoders.dual_encoder import Encoder
from captionless.encoders.hub import BUNDLED
from captionless.errors import CaptionlessError, shorten
from captionless.text_files import parse_json

_ABOUT = b"captionless"
_COLUMNS = ("file", "key", "width", "height", "vector", "skipped")
_DIGEST, _END = 32, 8
"""Bytes of a digest, and of what stands behind the footer: its length, and a mark."""


def shard_about(encoder: Encoder, background: str) -> dict[str, Any]:
    """Return what the vectors depend on besides the images; stored in every file."""
    # A local path becomes absolute, so that it is valid in any working directory.
    name = os.path.abspath(encoder.name) if encoder.name != BUNDLED and os.path.isdir(encoder.name) else encoder.name
    return {"encoder": name, "digest": encoder.digest, "width": encoder.width, "background": background}


def shard_bytes(
    entries: Sequence[ImageFile | SkippedFile], vectors: Mapping[str, Vectors], about: Mapping[str, Any]
) -> bytes:
    """Return the Parquet file of a shard.

    Args:
        entries: the files of the shard.
        vectors: the vector of each image, by its key.
        about: see `shard_about`.
    """
    parquet = import_pyarrow()
    import pyarrow as pa

    images = [entry if isinstance(entry, ImageFile) else None for entry in entries]
    keys = [vector_key(image, about["background"]) if image else None for image in images]
    flat = np.zeros((len(keys), about["width"]), np.float32)
    for row, key in zip(flat, keys, strict=True):
        row[:] = vectors[key] if key else 0
    has_vector = np.array([key is not None for key in keys], bool)
    columns = {
        "file": pa.array([entry.name for entry in entries], pa.string()),
        "key": pa.array(keys, pa.string()),
        "width": pa.array([image and image.width for image in images], pa.int32()),
        "height": pa.array([image and image.height for image in images], pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(flat.ravel(), about["width"], mask=pa.array(~has_vector)),
        "skipped": pa.array([getattr(entry, "reason", None) for entry in entries], pa.string()),
    }
    table = pa.table(columns).select(_COLUMNS).replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, use_dictionary=False)
    return _sealed(buffer.getvalue())


def read_about(folder: Path) -> dict[str, Any]:
    """Return the `shard_about` of the shards in a folder; empty if there are none yet.

    Raises:
        CaptionlessError: a Parquet file there does not hold the vectors of a shard.
    """
    path = next(iter(sorted(folder.glob("*.parquet"))), None)
    return _about(path) if path else {}


def read_skipped(path: Path) -> list[SkippedFile]:
    """Return the files of a shard that have no vector.

    Raises:
        CaptionlessError: the Parquet file is damaged.
    """
    try:
        rows = zip(_column(path, "file").to_pylist(), _column(path, "skipped").to_pylist(), strict=True)
        return [SkippedFile(name, reason) for name, reason in rows if reason is not None]
    except (UnicodeDecodeError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def read_shard_vectors(folder: Path, images: Sequence[ImageFile], encoder: Encoder, background: str) -> Vectors:
    """Return the vectors of images from the shards in a folder, float32 (n, width), memory-mapped.

    Raises:
        CaptionlessError: an image has no vector there, or the vectors are those of another encoder.
    """
    keys = [vector_key(image, background) for image in images]
    places: dict[str, tuple[Path, int]] = {}
    for path in sorted(folder.glob("*.parquet")):
        if (about := _about(path))["digest"] not in encoder.digests:
            raise CaptionlessError(
                f"{path} holds vectors of the encoder {about['encoder']}, not of {encoder.name}. Pass "
                f"`encoder={about['encoder']}`, or embed the images with {encoder.name}."
            )
        places.update((key, (path, row)) for row, key in enumerate(_keys(path)))
    if missing := [image.name for image, key in zip(images, keys, strict=True) if key not in places]:
        raise CaptionlessError(
            f"{folder} has no vector for {len(missing):,} images: {', '.join(shorten(missing, 3))}. Run `captionless "
            f"embed` with `shards={folder}` and `relist=True`, or leave `vectors` out."
        )

    shape = (len(keys), encoder.width)

    def rows() -> Vectors:
        gathered = np.empty(shape, np.float32)
        for at in sorted(range(len(keys)), key=lambda at: places[keys[at]]):  # each shard is read once
            path, row = places[keys[at]]
            gathered[at] = _vectors(path, encoder.width)[row]
        return gathered

    return mapped_array(cache_folder(), [encoder.digest, *keys], shape, np.float32, rows)


def _sealed(data: bytes) -> bytes:
    """Return a Parquet file with its seal. Its footer tells where columns are by their distance from the beginning."""
    footer = len(data) - _END - int.from_bytes(data[-_END:-4], "little")
    file = io.BytesIO(data)
    digests = [hashlib.sha256(data[footer:]), *(_column_digest(file, file, name) for name in _COLUMNS)]
    return data[:footer] + b"".join(digest.digest() for digest in digests) + data[footer:]


def _column_digest(file: BinaryIO, source: Any, name: str) -> Any:
    """Return the digest of a column of a Parquet file, which pyarrow opens as ``source``."""
    metadata = import_pyarrow().read_metadata(source)
    digest = hashlib.sha256()
    for group in range(metadata.num_row_groups):
        part = metadata.row_group(group).column(_COLUMNS.index(name))
        file.seek(part.data_page_offset)
        digest.update(file.read(part.total_compressed_size))
    return digest


def _check(path: Path, name: str | None = None) -> None:
    """Raise unless the footer of a shard, and a column of that name, have their digests."""
    length = (1 + len(_COLUMNS)) * _DIGEST
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        start = size - _END - int.from_bytes(file.read(4), "little")
        file.seek(max(0, start - length))
        seal, footer = file.read(length), file.read()
        if start < length or hashlib.sha256(footer).digest() != seal[:_DIGEST]:
            if _ABOUT in footer:
                raise _damaged(path, "its footer does not have its digest")
            raise CaptionlessError(f"{path} does not hold the vectors of a shard. Choose another folder.")
        if name is not None:
            place = _DIGEST * (1 + _COLUMNS.index(name))
            if _column_digest(file, path, name).digest() != seal[place : place + _DIGEST]:
                raise _damaged(path, f"its column {name} does not have its digest")


def _about(path: Path) -> dict[str, Any]:
    try:
        _check(path)
        about = dict(parse_json(import_pyarrow().read_schema(path).metadata[_ABOUT]))
        return {name: about[name] for name in ("encoder", "digest", "width", "background")} | about
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionlessError(f"{path} does not hold the vectors of a shard. Choose another folder.") from error


def _column(path: Path, name: str) -> Any:
    parquet = import_pyarrow()
    import pyarrow as pa

    try:
        _check(path, name)
        return parquet.read_table(path, columns=[name]).column(0).combine_chunks()
    except (OSError, IndexError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from error


def _keys(path: Path) -> list[str]:
    try:
        return list(_column(path, "key").drop_null().to_pylist())
    except UnicodeDecodeError as error:
        raise _damaged(path, str(error)) from error


@functools.lru_cache(maxsize=1)
def _vectors(path: Path, width: int) -> Vectors:
    """Return the vectors of a shard, (n, width), without the rows of skipped files."""
    keys = _keys(path)
    vectors = np.asarray(_column(path, "vector").flatten(), dtype=np.float32)
    if vectors.size != len(keys) * width or not np.isfinite(vectors).all():
        raise _damaged(path, "its vectors are incomplete or not finite")
    return vectors.reshape(-1, width)


def _damaged(path: Path, why: str) -> CaptionlessError:
    return CaptionlessError(
        f"{path} is damaged ({' '.join(why.split())[:200]}). Delete it, and run `captionless embed` again.",
        code="damaged_file",
    )
