"""A folder of pictures → one image vector a picture, computed once and then remembered."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from captionless.data.arrays import ArrayBuilder, ImageArrays, Progress, allocate, tracked
from captionless.data.folder import find_images, match_names, relative_name
from captionless.data.images import ImageFile, SkippedFile, read_folder
from captionless.encoders.cache import VectorCache, Vectors, cache_folder
from captionless.encoders.table import read_vectors, write_vectors
from captionless.errors import CaptionlessError

__all__ = [
    "EmbeddedImages",
    "ImageEncoder",
    "VectorCache",
    "cache_folder",
    "embed",
    "read_vectors",
    "write_vectors",
]

BATCH = 64
"""Pictures encoded together."""
FLUSH_EVERY = 2000
"""New vectors after which they are written to the cache."""


class ImageEncoder(Protocol):
    """The picture side of an encoder: what `embed` needs of it."""

    @property
    def name(self) -> str:
        """What the person called it."""

    @property
    def digest(self) -> str:
        """Hash of its content, part of the cache's key."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    @property
    def image_size(self) -> int:
        """Side of the pictures it looks at, in pixels."""

    def encode_images(self, images: Sequence[Image.Image]) -> Any:
        """A vector for each picture: a tensor or array (n, width)."""


@dataclass(frozen=True, eq=False)
class EmbeddedImages(ImageArrays):
    """The usable pictures of a folder with their vectors.

    Args:
        vectors: float32 (n, width), one for each picture.
        computed: how many vectors were computed now; the others were there already.
    """

    vectors: Vectors
    computed: int


def embed(
    folder: str | Path,
    encoder: ImageEncoder,
    *,
    sizes: Sequence[int] = (),
    grey: bool = False,
    precomputed: Mapping[str, Vectors] | None = None,
    cache: VectorCache | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> EmbeddedImages:
    """Read a folder once: its pictures as squares, and their vectors, from the cache or else from the encoder.

    The encoder is shown each picture's centre square in colour, in the picture's own resolution up to twice
    what the encoder looks at, so that the encoder's own resizing decides. New vectors are written to the cache
    every `FLUSH_EVERY` pictures and at the end, also when the end is an interruption.

    Args:
        folder: searched with its sub-folders.
        encoder: gives the vectors.
        sizes: sides of the squares to make of each picture, in pixels.
        grey: make those (size, size, 1).
        precomputed: vectors made earlier, by path (see `read_vectors`), instead of the encoder's and the cache's. The
            paths may be relative to the folder, absolute, or plain file names where that is unambiguous; one that
            leads to no picture is passed over with a warning. Vectors of another length are scaled to 1.
        cache: where vectors are remembered; by default in `cache_folder`.
        workers: decoding processes, see `captionless.data.images.read_folder`.
        on_progress: called after each file with how many are done and how many there are.

    Raises:
        CaptionlessError: a wrong folder or one without usable pictures; an encoder that gives unusable vectors;
            a cache that cannot be written; pictures without a given vector (the message names some).
    """
    files = find_images(folder)
    rows, vectors = ArrayBuilder(len(files), sizes, grey), allocate(len(files), (encoder.width,), np.float32)
    full = 0 if precomputed is not None else 2 * encoder.image_size
    found = read_folder(folder, sizes, grey=grey, full=full, workers=workers, files=files)
    with closing(found):
        entries = tracked(found, len(files), on_progress)
        if precomputed is not None:
            computed = 0
            _look_up(entries, rows, vectors, precomputed, folder, files)
        else:
            computed = _compute(entries, rows, vectors, encoder, cache)
    return EmbeddedImages(rows.entries, rows.pixels, vectors[: rows.count], computed)


def _compute(
    found: Iterator[ImageFile | SkippedFile],
    rows: ArrayBuilder,
    vectors: Vectors,
    encoder: ImageEncoder,
    cache: VectorCache | None,
) -> int:
    """Set each row's vector from the cache, or else from the encoder; how many the encoder computed."""
    if cache is None:
        cache = VectorCache(cache_folder(), encoder.digest, encoder.name)
    if cache.encoder_digest != encoder.digest:
        raise ValueError(f"the cache is of the encoder {cache.encoder_digest}, not of {encoder.digest}")
    row_of: dict[str, int] = {}
    copies: list[tuple[int, int]] = []
    queue: list[tuple[int, ImageFile]] = []
    computed = 0
    try:
        for entry in found:
            row = rows.add(entry)
            if isinstance(entry, SkippedFile):
                continue
            if (first := row_of.setdefault(entry.digest, row)) != row:
                copies.append((row, first))
            elif (known := cache.get(entry.digest)) is not None and len(known) == encoder.width:
                vectors[row] = known
            else:
                queue.append((row, entry))
            if len(queue) == BATCH:
                computed += _encode(queue, vectors, encoder, cache)
        computed += _encode(queue, vectors, encoder, cache)
    finally:
        cache.flush()
    for row, first in copies:
        vectors[row] = vectors[first]
    return computed


def _encode(queue: list[tuple[int, ImageFile]], vectors: Vectors, encoder: ImageEncoder, cache: VectorCache) -> int:
    """Encode the pictures of the queue and empty it; how many there were."""
    if not queue:
        return 0
    images = [Image.fromarray(picture.full) for _, picture in queue if picture.full is not None]
    result = encoder.encode_images(images)
    if hasattr(result, "detach"):  # a tensor, perhaps of another device or precision
        result = result.detach().float().cpu()
    fresh = np.asarray(result, dtype=np.float32)
    if fresh.shape != (len(queue), encoder.width) or not np.isfinite(fresh).all():
        raise CaptionlessError(
            f"the encoder {encoder.name} gave unusable vectors (shape {fresh.shape}, or not finite) for "
            f"{queue[0][1].name} and what follows it. Use another encoder."
        )
    for (row, picture), vector in zip(queue, fresh, strict=True):
        vectors[row] = vector
        cache.add(picture.digest, picture.name, vector)
    if cache.pending >= FLUSH_EVERY:
        cache.flush()
    count = len(queue)
    queue.clear()
    return count


def _look_up(
    found: Iterator[ImageFile | SkippedFile],
    rows: ArrayBuilder,
    vectors: Vectors,
    precomputed: Mapping[str, Vectors],
    folder: str | Path,
    files: Sequence[Path],
) -> None:
    """Set each row's vector from the given ones."""
    root = Path(os.path.abspath(folder))
    keys = match_names([relative_name(file, root) for file in files], precomputed, root)
    missing: list[str] = []
    for entry in found:
        row = rows.add(entry)
        if isinstance(entry, ImageFile):
            if key := keys.get(entry.name):
                vectors[row] = _unit(precomputed[key], key, vectors.shape[1])
            else:
                missing.append(entry.name)
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise CaptionlessError(
            f"{len(missing)} of the pictures of {folder} have no given vector: {some}. Add a line for each, with "
            "its path as it is written here, or let the encoder embed the folder."
        )
    if unused := precomputed.keys() - set(keys.values()):
        warnings.warn(
            f"{len(unused)} of the given vectors fit no picture of {folder}, such as {min(unused)}", stacklevel=3
        )


def _unit(vector: Vectors, name: str, width: int) -> Vectors:
    """The vector with length 1, untouched where that is (nearly) so."""
    length = float(np.linalg.norm(vector))
    if len(vector) != width:
        raise CaptionlessError(
            f"the given vector of {name} has {len(vector)} numbers, the encoder's have {width}. Name the encoder that "
            "made the vectors."
        )
    if not length > 0:
        raise CaptionlessError(f"the given vector of {name} is all zeros. Embed that picture again.")
    return vector if abs(length - 1) < 1e-3 else (vector / length).astype(np.float32)
