"""Embed a folder of images: one vector per image, computed once and then cached."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from captionless.data.arrays import ArrayBuilder, ImageArrays, allocate, tracked
from captionless.data.folder import find_images, match_names, relative_name
from captionless.data.images import ImageFile, SkippedFile, read_folder
from captionless.encoders.cache import VectorCache, Vectors, cache_folder
from captionless.errors import CaptionlessError, shorten
from captionless.progress import Progress


class ImageEncoder(Protocol):
    """The image side of an encoder, as far as `embed` needs it."""

    @property
    def name(self) -> str:
        """The name given by the user."""

    @property
    def digest(self) -> str:
        """Hash of its image side, part of the cache's key."""

    @property
    def digests(self) -> Collection[str]:
        """All hashes by which caches may know it."""

    @property
    def width(self) -> int:
        """The dimension of the vectors."""

    @property
    def image_size(self) -> int:
        """Side of the images that it reads, in pixels."""

    def encode_images(self, images: Sequence[Image.Image]) -> Any:
        """Return a vector per image: a tensor or array (n, width)."""


@dataclass(frozen=True, eq=False)
class EmbeddedImages(ImageArrays):
    """The usable images of a folder with their vectors.

    Args:
        vectors: float32 (n, width), one for each image.
        computed: how many vectors were computed now; the others came from the cache or a table.
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
    batch: int = 64,
    progress: Progress | None = None,
) -> EmbeddedImages:
    """Read a folder once: its images as arrays, and their vectors, from the cache or else from the encoder.

    The encoder reads each image's centre square in colour, at the image's own resolution up to twice the encoder's, so
    that the encoder's own resizing decides. New vectors are written to the cache from time to time and at the end, also
    when the end is an interruption.

    Args:
        folder: searched with its sub-folders.
        encoder: computes the vectors.
        sizes: sides of the square images to return, in pixels.
        grey: return one channel instead of three.
        precomputed: vectors by path (see `read_vectors`), instead of the encoder's. The paths may be relative to the
            folder, absolute, or plain file names if those are unambiguous; a path that matches no image causes a
            warning. Vectors are scaled to length 1.
        cache: where vectors are kept; by default the cache in `cache_folder`.
        workers: decoding processes, see `captionless.data.read_folder`.
        batch: images to encode at a time.
        progress: receives the number of files read.

    Raises:
        CaptionlessError: the folder does not exist or has no usable image, the encoder gives unusable vectors, the
            cache cannot be written, or an image has no precomputed vector.
    """
    files = find_images(folder)
    arrays, vectors = ArrayBuilder(len(files), sizes, grey), allocate(len(files), (encoder.width,), np.float32)
    full = 0 if precomputed is not None else 2 * encoder.image_size
    with closing(read_folder(folder, sizes, grey=grey, full=full, workers=workers, files=files)) as found:
        entries = tracked(found, len(files), progress)
        if precomputed is not None:
            computed = 0
            _look_up(entries, arrays, vectors, precomputed, folder, files)
        else:
            if cache is None:
                cache = VectorCache(cache_folder(), encoder.digest, encoder.name, also=encoder.digests)
            computed = _compute(entries, arrays, vectors, encoder, cache, batch)
    return EmbeddedImages(arrays.entries, arrays.pixels, vectors[: arrays.count], computed)


def _compute(
    found: Iterator[ImageFile | SkippedFile],
    arrays: ArrayBuilder,
    vectors: Vectors,
    encoder: ImageEncoder,
    cache: VectorCache,
    batch: int,
) -> int:
    """Set each row's vector from the cache or else from the encoder; return how many the encoder computed."""
    if cache.encoder_digest != encoder.digest:
        raise ValueError(f"the cache belongs to the encoder {cache.encoder_digest}, not to {encoder.digest}")
    row_of: dict[str, int] = {}
    copies: list[tuple[int, int]] = []
    queue: list[tuple[int, ImageFile]] = []
    computed = 0
    try:
        for entry in found:
            row = arrays.add(entry)
            if isinstance(entry, SkippedFile):
                continue
            if (first := row_of.setdefault(entry.digest, row)) != row:
                copies.append((row, first))
            elif (known := cache.get(entry.digest)) is not None and len(known) == encoder.width:
                vectors[row] = known
            else:
                queue.append((row, entry))
            if len(queue) == batch:
                computed += _encode(queue, vectors, encoder, cache)
        computed += _encode(queue, vectors, encoder, cache)
    finally:
        cache.flush()
    for row, first in copies:
        vectors[row] = vectors[first]
    return computed


def _encode(queue: list[tuple[int, ImageFile]], vectors: Vectors, encoder: ImageEncoder, cache: VectorCache) -> int:
    """Encode the images of the queue and empty it; return how many there were."""
    if not queue:
        return 0
    result = encoder.encode_images([Image.fromarray(image.full) for _, image in queue if image.full is not None])
    if hasattr(result, "detach"):  # a tensor, perhaps on another device or in another precision
        result = result.detach().float().cpu()
    fresh = np.asarray(result, dtype=np.float32)
    if fresh.shape != (len(queue), encoder.width) or not np.isfinite(fresh).all():
        raise CaptionlessError(
            f"the encoder {encoder.name} gave unusable vectors (shape {fresh.shape}, or not finite) for "
            f"{queue[0][1].name} and the images after it. Use another encoder."
        )
    for (row, image), vector in zip(queue, fresh, strict=True):
        vectors[row] = vector
        cache.add(image.digest, image.name, vector)
    queue.clear()
    return len(fresh)


def _look_up(
    found: Iterator[ImageFile | SkippedFile],
    arrays: ArrayBuilder,
    vectors: Vectors,
    precomputed: Mapping[str, Vectors],
    folder: str | Path,
    files: Sequence[Path],
) -> None:
    """Set each row's vector from the precomputed ones."""
    root = Path(os.path.abspath(folder))
    keys = match_names([relative_name(file, root) for file in files], precomputed, root)
    missing: list[str] = []
    for entry in found:
        row = arrays.add(entry)
        if isinstance(entry, ImageFile):
            if key := keys.get(entry.name):
                vectors[row] = _unit(precomputed[key], key, vectors.shape[1])
            else:
                missing.append(entry.name)
    if missing:
        raise CaptionlessError(
            f"the table has no vector for some images of {folder}: {', '.join(shorten(missing, 3))}. Add a line for "
            "each, with its path as it is written here, or leave the table out to embed the folder."
        )
    if unused := precomputed.keys() - set(keys.values()):
        warnings.warn(
            f"{len(unused)} vectors of the table match no image of {folder}, such as {min(unused)}", stacklevel=3
        )


def _unit(vector: Vectors, name: str, width: int) -> Vectors:
    """Scale a vector to length 1; one that has (nearly) this length stays as it is."""
    length = float(np.linalg.norm(vector))
    if len(vector) != width:
        raise CaptionlessError(
            f"the vector of {name} has {len(vector)} numbers, the encoder's have {width}. Set `encoder` to the one "
            "that made the vectors."
        )
    if not length > 0:
        raise CaptionlessError(f"the vector of {name} is all zeros. Embed that image again.")
    return vector if abs(length - 1) < 1e-3 else (vector / length).astype(np.float32)
