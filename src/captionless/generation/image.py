"""The result of generation: an image together with everything that decided it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

if TYPE_CHECKING:
    from captionless.conditioning.composition import Composition
    from captionless.generation.editing import Edit
    from captionless.generation.trajectory import Trajectory

ENCODING_ERRORS = "backslashreplace"
"""The error handler that encodes file names in metadata that are not valid Unicode."""
_DESCRIPTION = 0x010E
"""The EXIF tag ImageDescription."""


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image with everything needed to reproduce it; notebooks display it as a picture.

    Args:
        image: RGB, or L from a grey model.
        prompt: the text it was generated from, or a class name; empty for a reference image without a text.
        seed: the seed of all its noise.
        config: the sampling settings, with ``auto`` and other defaults resolved.
        details: what else determined it, by name: the model, the version of the library, and whatever was used of a
            composition or an edit.
        trajectory: its denoising steps, where they were requested.
    """

    image: Image.Image
    prompt: str
    seed: int
    config: SamplingConfig
    details: dict[str, Any] = field(default_factory=dict)
    trajectory: Trajectory | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Return prompt, seed, details and settings in one dictionary of JSON values, as files and manifest hold it."""
        return {"prompt": self.prompt, "seed": self.seed, **self.details, **self.config.model_dump(mode="json")}

    @property
    def title(self) -> str:
        """Describe what the image shows: the prompt, and the second prompt if there is one."""
        title = self.prompt or f"like {Path(self.details.get('like', '')).name}"
        for name in ("then", "towards"):
            if name in self.details:
                title += f" … {name} {self.details[name]}"
        return title

    @property
    def subtitle(self) -> str:
        """Describe what distinguishes the image from others with the same title: its seed, or its share of a blend."""
        share = self.details.get("towards_share")
        return f"seed {self.seed}" if share is None else f"{share:.0%} of the way"

    def save(self, path: str | Path) -> None:
        """Write the image with its metadata, in the format of the path's suffix; replaces a file of that name.

        A PNG holds each value as a text chunk, a JPEG or WebP file all values as JSON in its EXIF description.

        Raises:
            CaptionlessError: the suffix names no image format, or the file cannot be written.
        """
        kind = Image.registered_extensions().get(Path(path).suffix.lower())
        if kind not in Image.SAVE:
            raise CaptionlessError(
                f"{path} has no suffix of an image format. Save it as .png, .jpg or .webp.", parameter="path"
            )
        with atomic_write(path) as temporary:
            if kind == "PNG":
                self.image.save(temporary, format=kind, pnginfo=png_text(self.metadata))
            else:
                exif = Image.Exif()
                exif[_DESCRIPTION] = json.dumps(self.metadata)
                self.image.save(temporary, format=kind, exif=exif)

    def _repr_png_(self) -> bytes:
        """Return the image as PNG data, for notebooks."""
        file = io.BytesIO()
        self.image.save(file, format="PNG")
        return file.getvalue()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return the pixels, uint8 (height, width, 3), or (height, width) of a grey image, for ``numpy.asarray``."""
        import numpy as np

        return np.array(self.image, dtype=dtype)

    def __repr__(self) -> str:
        """Describe the image in one line."""
        width, height = self.image.size
        return f"<GeneratedImage of {width} x {height} pixels: {self.title!r}, {self.subtitle}>"


def png_text(metadata: dict[str, Any]) -> PngInfo:
    """Return metadata as PNG text chunks; values that are not text become JSON, and None is left out."""
    text = PngInfo()
    for name, value in metadata.items():
        if value is not None:
            words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text.add_itxt(name, words.encode(errors=ENCODING_ERRORS).decode())
    return text


def composition_details(composition: Composition, edit: Edit | None) -> dict[str, Any]:
    """Return the parts of a composition and an edit that are in use, by name, as JSON values for records."""
    given: dict[str, Any] = {
        "negative": composition.negative,
        "also": [list(one) for one in composition.also] or None,
        "then": composition.then,
        "switch": composition.switch if composition.then else None,
        "towards": composition.towards,
        "like": _source(composition.like),
        "like_share": composition.like_share if composition.like else None,
        "init": _source(edit.photo if edit else None),
        "strength": edit.start if edit else None,
        "mask": _source(edit.mask if edit else None),
    }
    return {name: value for name, value in given.items() if value is not None}


def _source(image: Image.Image | None) -> str | None:
    """Return the file that an image was opened from, as Pillow notes it."""
    return None if image is None else str(getattr(image, "filename", "") or "an image without a file")
