"""Write the vectors of a shard of images as a Parquet file, and read them for training.

Each file of the shard has one row: ``file``, ``key`` (see `vector_key`), ``width`` and ``height`` in pixels, and
``vector``; or ``file`` and ``skipped``, the reason why it has no vector.
"""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captionless.data.cache import cache_folder, mapped_array
from captionless.data.images import ImageFile, SkippedFile
from captionless.data.parquet import import_pyarrow
from captionless.encoders.cache import Vectors, vector_key
from captionless.encoders.dual_encoder import Encoder
from captionless.encoders.hub import BUNDLED
from captionless.errors import CaptionlessError, shorten

_ABOUT = b"captionless"


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
    mask = pa.array([key is None for key in keys])
    columns = {
        "file": pa.array([entry.name for entry in entries], pa.string()),
        "key": pa.array(keys, pa.string()),
        "width": pa.array([image and image.width for image in images], pa.int32()),
        "height": pa.array([image and image.height for image in images], pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(flat.ravel(), about["width"], mask=mask),
        "skipped": pa.array([getattr(entry, "reason", None) for entry in entries], pa.string()),
    }
    table = pa.table(columns).replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, use_dictionary=False)
    return buffer.getvalue()


def read_about(folder: Path) -> dict[str, Any]:
    """Return the `shard_about` of the shards in a folder; empty if there are none yet.

    Raises:
        CaptionlessError: a Parquet file there does not hold the vectors of a shard.
    """
    path = next(iter(sorted(folder.glob("*.parquet"))), None)
    return _about(path) if path else {}


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
        column = import_pyarrow().read_table(path, columns=["key"]).column(0).drop_null()
        places.update((key, (path, row)) for row, key in enumerate(column.to_pylist()))
    if missing := [image.name for image, key in zip(images, keys, strict=True) if key not in places]:
        raise CaptionlessError(
            f"{folder} has no vector for {len(missing):,} images: {', '.join(shorten(missing, 3))}. Run `captionless "
            f"embed` with `shards={folder}` and `relist=True`, or leave `vectors` out."
        )

    def rows() -> Iterator[Vectors]:
        for key in keys:
            path, row = places[key]
            yield _vectors(path)[row]

    shape = (len(keys), encoder.width)
    return mapped_array(cache_folder(), [encoder.digest, *keys], shape, np.float32, rows)


def _about(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(import_pyarrow().read_schema(path).metadata[_ABOUT]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionlessError(f"{path} does not hold the vectors of a shard. Choose another folder.") from error


@functools.lru_cache(maxsize=2)
def _vectors(path: Path) -> Vectors:
    """Return the vectors of a shard, (n, width), without the rows of skipped files."""
    column = import_pyarrow().read_table(path, columns=["vector"]).column(0).combine_chunks()
    return np.asarray(column.flatten(), dtype=np.float32).reshape(-1, column.type.list_size)
