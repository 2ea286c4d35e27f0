"""Find the training images that are nearest to an image, with their credits, and thumbnails where they may be shown.

Images are compared by the vectors of the model's encoder, as when a prompt is bridged to images, and mirrored too.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import ImageOps
from PIL.Image import Image

from captionless.checkpoints.card import CREDITS
from captionless.checkpoints.config import model_folder
from captionless.checkpoints.model import bank_images
from captionless.data.crop import crop_square
from captionless.data.csv_rows import read_rows
from captionless.data.decode import decode_image, read_bytes
from captionless.data.folder import match_names
from captionless.data.formats import UnusableError
from captionless.errors import CaptionlessError
from captionless.generation.generator import Generator
from captionless.generation.prepared import image_vectors

SHOWN = 4
"""Training images that are named."""
PROBES = 256
"""Training images by which the typical similarity is estimated."""
THUMBNAIL = 192
"""Side of a thumbnail, in pixels."""


class NearestImages:
    """The training images of a model, by which images are compared with them.

    Args:
        generator: the model.
        images: the folder of the training images, if they may be shown.
    """

    def __init__(self, generator: Generator, images: Path | None = None) -> None:
        self._generator, self._images = generator, images
        model = generator.model.base or generator.model
        self._folder, self._config, self._bank = model_folder(model.name), model.config, model.bank
        # Name and content hash of each image that is compared with; empty if the model does not record them. Read now,
        # because the list of models, which the event loop answers, says whether there are any.
        self.known = bank_images(self._folder, self._config) if self._config.encoder else []

    @cached_property
    def credits(self) -> Mapping[str, tuple[str, str | None]]:
        """The credit and, if there is one, the link of each image in the credits table, by the name of the image."""
        path = self._folder / CREDITS
        try:
            rows = [row.values for row in read_rows(path)][1:] if path.is_file() else []
        except CaptionlessError:  # a damaged table costs the credits, not the answer
            rows = []
        texts = {row[0]: _credit(row[1:]) for row in rows}
        matched = match_names([name for name, _ in self.known], texts, self._config.training.folder)
        return {name: texts[key] for name, key in matched.items()}

    @cached_property
    def typical(self) -> float:
        """The median similarity of a training image to the nearest other one."""
        rows = torch.arange(0, len(self._bank), -(-len(self._bank) // PROBES))
        similar = self._bank[rows] @ self._bank.T
        similar[torch.arange(len(rows)), rows] = -1
        return float(similar.amax(1).median())

    def find(self, image: Image) -> dict[str, Any]:
        """Return the training images nearest to an image, nearest first, and the similarity that is typical among them.

        Raises:
            CaptionlessError: the model does not record its training images.
        """
        if not self.known:
            raise CaptionlessError("this model does not record the vectors of its training images.", parameter="model")
        vectors = image_vectors(self._generator, [image, ImageOps.mirror(image)])
        similar = (vectors @ self._bank.T).amax(0)
        found = similar.topk(min(SHOWN, len(similar)))
        return {
            "typical": self.typical,
            "compared": len(self.known),
            "of": self._config.training.train_images,
            "images": [self._named(*pair) for pair in zip(found.indices.tolist(), found.values.tolist(), strict=True)],
        }

    def _named(self, row: int, similarity: float) -> dict[str, Any]:
        name, digest = self.known[row]
        credit, link = self.credits.get(name, ("", None))
        named = {"name": name, "similarity": similarity, "credit": credit, "link": link}
        return named | {"thumbnail": self._thumbnail(name, digest)}

    def _thumbnail(self, name: str, digest: str) -> str | None:
        """Return the data URL of a training image; None where it is not shown, or the file is another image."""
        if self._images is None:
            return None
        try:
            data = read_bytes(self._images / name)
        except UnusableError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        file = io.BytesIO()
        crop_square(decode_image(data, self._config.training.background), THUMBNAIL).save(file, "WEBP")
        return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _credit(cells: list[str]) -> tuple[str, str | None]:
    """Return what a row of a credits table says besides the file, and its first address."""
    links = [cell for cell in cells if cell.startswith(("https://", "http://"))]
    return ", ".join(cell for cell in cells if cell and cell not in links), next(iter(links), None)
