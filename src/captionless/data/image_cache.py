"""Keep decoded images in the cache, and make the arrays of a training run from them.

Layout: ``<cache>/images-1/<decoding>-<side>-<detail>-<background>/part-*.safetensors`` holds whole images by content
hash, and ``<cache>/arrays-1`` the array of a list of images in one memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from captionless.data.cache import IMAGES, mapped_array, trim_cache
from captionless.data.crop import crop_square, enlarge_pixel_art
from captionless.data.decode import DECODING, rgb
from captionless.data.folder import find_images, relative_name
from captionless.data.images import DETAIL, Decoding, ImageFile, Pixels, SkippedFile, decode_files
from captionless.data.parts import Parts
from captionless.errors import CaptionlessError

MARGIN = 1.5
"""Shorter side of a cached image, as a multiple of the largest square: room for crops."""


class ImageCache:
    """The decoded images of a folder in the cache.

    Args:
        cache: the cache folder.
        folder: the folder of images, to read those that the cache lacks.
        sizes: side lengths in pixels of the squares that will be made.
        full: see `Decoding`.
        background: colour behind transparent images.
    """

    def __init__(self, cache: Path, folder: str | Path, sizes: Sequence[int], full: int, background: str) -> None:
        self.folder, self.cache = folder, cache
        self.decoding = Decoding(
            side=round(MARGIN * max(sizes)) if sizes else 0,
            full=full,
            background="#{:02x}{:02x}{:02x}".format(*rgb(background)),
            detail=max(DETAIL, full, *sizes),
        )
        self._recipe = f"{DECODING}-{self.decoding.side}-{self.decoding.detail}-{self.decoding.background[1:]}"

    @cached_property
    def wholes(self) -> Parts:
        """The images, with shorter sides of 1.5 times the largest size or less, by content hash."""
        return Parts(self.cache / IMAGES / self._recipe, "images")

    def keep(self, image: ImageFile) -> None:
        """Add an image that was just decoded."""
        if image.whole is not None and image.digest not in self.wholes:
            self.wholes.add(image.digest, image.whole)

    def flush(self) -> None:
        """Write the images that were added."""
        if "wholes" in self.__dict__:
            self.wholes.flush()

    def array(
        self, images: Sequence[ImageFile], size: int, *, grey: bool, advance: Callable[[str, int, int], None]
    ) -> Pixels:
        """Return the centre squares of images, memory-mapped, uint8 (n, size, size, 3), or (n, size, size, 1) in grey.

        An image whose shorter side is below ``size`` is enlarged: pixel art by a whole factor, others smoothly.

        Raises:
            CaptionlessError: an image that the cache lacks has changed or disappeared since it was first read.
        """

        def rows() -> Iterator[Pixels]:
            self._complete(images, advance)
            for image in images:
                whole = self.wholes.get(image.digest)
                assert whole is not None  # by `_complete`
                yield square_pixels(whole, image, size, self.decoding.background, grey)

        contents = (f"{image.digest} {image.pixel_art:d} {image.transparent:d}" for image in images)
        key = chain((self._recipe, "grey" if grey else "colour"), contents)
        pixels = mapped_array(self.cache, key, (len(images), size, size, 1 if grey else 3), np.uint8, rows)
        trim_cache(self.cache)
        return pixels

    def _complete(self, images: Sequence[ImageFile], advance: Callable[[str, int, int], None]) -> None:
        """Decode the images that the cache lacks."""
        unique = {image.digest: image for image in images if image.digest not in self.wholes}
        if not unique:
            return
        paths = {relative_name(path, self.folder): path for path in find_images(self.folder)}
        order = {name: number for number, name in enumerate(paths)}
        # In the order of the files: of Parquet, a group of rows is read as a whole.
        lacking = sorted(unique.values(), key=lambda image: order.get(image.name, 0))
        files = [paths.get(image.name, Path(self.folder, image.name)) for image in lacking]
        found = decode_files(self.folder, files, replace(self.decoding, full=0))
        for count, (image, now) in enumerate(zip(lacking, found, strict=True), 1):
            if isinstance(now, SkippedFile) or now.digest != image.digest:
                raise CaptionlessError(
                    f"{self.folder}/{image.name} has changed since it was first read. Run the same command again."
                )
            self.keep(now)
            advance("Reading images again", count, len(lacking))
        self.wholes.flush()


def square_pixels(whole: Pixels, image: ImageFile, size: int, background: str, grey: bool = False) -> Pixels:
    """Return the centre square of a decoded image, uint8 (size, size, 3 or 1)."""
    shown = Image.fromarray(whole)
    if min(shown.size) < size and image.pixel_art:
        square = enlarge_pixel_art(shown, size, background if image.transparent else None)
    else:
        square = crop_square(shown, size)
    return np.asarray(square.convert("L"))[..., None] if grey else np.asarray(square)
