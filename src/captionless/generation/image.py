"""The generated image with its prompt, seed and settings."""

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
from captionless.paths import user_path

if TYPE_CHECKING:
    from captionless.conditioning.composition import Composition
    from captionless.generation.editing import Edit
    from captionless.generation.trajectory import Trajectory

ENCODING_ERRORS = "backslashreplace"
"""The error handler for file names in metadata that are not valid Unicode."""
_DESCRIPTION = 0x010E
"""The EXIF tag ImageDescription."""
_TEXTS = frozenset(["prompt", "model", "negative", "then", "towards", "like", "init", "mask", "version"])
"""The metadata that are texts, even if one of them reads like a number."""


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image with everything needed to reproduce it. Notebooks display the image.

    Args:
        image: the image, in mode RGB, or L for a grey model.
        prompt: the prompt or class name; empty if only a reference image was given.
        seed: the seed of the noise.
        config: the sampling settings, with ``auto`` and other defaults resolved.
        details: everything else that determined the image: the model, the version of the library, and the parts of the
            composition or edit that were used.
        trajectory: the denoising steps, if requested.
    """

    image: Image.Image
    prompt: str
    seed: int
    config: SamplingConfig
    details: dict[str, Any] = field(default_factory=dict)
    trajectory: Trajectory | None = None

    @classmethod
    def open(cls, path: str | Path) -> GeneratedImage:
        """Read an image and its metadata from a file that ``save``, the command line or the server wrote.

            image = GeneratedImage.open("rose.png")
            again = generator.generate(image.prompt, seed=image.seed, sampling=image.config)[0]

        The same model then gives the same image, unless ``details`` name more than the model and the version: a
        composition or an edit has to be repeated too.

        Raises:
            CaptionlessError: the file cannot be read, has no metadata, or has settings that are unknown.
        """
        try:
            with Image.open(user_path(path)) as file:
                file.load()
                stored, image = _stored(file), file.copy()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CaptionlessError(f"cannot read {path}: {error}. Pass an image file.", parameter="path") from error
        prompt, seed = stored.pop("prompt", None), stored.pop("seed", None)
        if not isinstance(prompt, str) or type(seed) is not int:
            raise CaptionlessError(
                f"{path} has no prompt and seed: captionless did not write it, or another program has removed them. "
                "Pass the file as it was written.",
                parameter="path",
            )
        config = {name: stored.pop(name) for name in SamplingConfig.model_fields if name in stored}
        return cls(image, prompt, seed, SamplingConfig(**config), stored)

    @property
    def metadata(self) -> dict[str, Any]:
        """Prompt, seed, details and settings as JSON values, as stored in image files and the manifest."""
        return {"prompt": self.prompt, "seed": self.seed, **self.details, **self.config.model_dump(mode="json")}

    @property
    def title(self) -> str:
        """The prompt, followed by the second prompt if there is one."""
        title = self.prompt or f"like {Path(self.details.get('like', '')).name}"
        for name in ("then", "towards"):
            if name in self.details:
                title += f" … {name} {self.details[name]}"
        return title

    @property
    def subtitle(self) -> str:
        """The seed, or the interpolation weight, which distinguishes images with the same title."""
        share = self.details.get("towards_share")
        return f"seed {self.seed}" if share is None else f"{share:.0%} of the way"

    def save(self, path: str | Path) -> None:
        """Write the image with its metadata, in the format given by the file extension. Overwrites an existing file.

        A PNG file stores each metadata value as a text chunk; other formats store all values as JSON in the EXIF
        description.

        Raises:
            CaptionlessError: the path has no image extension, or the file cannot be written.
        """
        kind = Image.registered_extensions().get(Path(path).suffix.lower())
        if kind not in Image.SAVE:
            raise CaptionlessError(
                f"{path} has no image extension. Save the image as .png, .jpg or .webp.", parameter="path"
            )
        data = self.encoded(kind)
        with atomic_write(user_path(path)) as temporary:
            temporary.write_bytes(data)

    def encoded(self, kind: str, **options: Any) -> bytes:
        """Return the content of an image file with the metadata; ``kind`` is ``PNG``, ``JPEG``, ``WEBP`` and the like.

        Args:
            kind: the name of a format that Pillow can write.
            **options: options of this format, such as ``quality``.
        """
        file = io.BytesIO()
        if kind == "PNG":
            options["pnginfo"] = png_text(self.metadata)
        else:
            options["exif"] = Image.Exif()
            options["exif"][_DESCRIPTION] = json.dumps(self.metadata)
        self.image.save(file, format=kind, **options)
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        """Return the image as PNG data, which notebooks display."""
        file = io.BytesIO()
        self.image.save(file, format="PNG")
        return file.getvalue()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Support ``numpy.asarray``: return the pixels, uint8, (height, width, 3), or (height, width) if grey."""
        import numpy as np

        return np.array(self.image, dtype=dtype)

    def __repr__(self) -> str:
        """Return size, title and subtitle."""
        width, height = self.image.size
        return f"<GeneratedImage of {width} x {height} pixels: {self.title!r}, {self.subtitle}>"


def png_text(metadata: dict[str, Any]) -> PngInfo:
    """Return metadata as PNG text chunks; values other than strings are stored as JSON, and None is omitted."""
    text = PngInfo()
    for name, value in metadata.items():
        if value is not None:
            words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text.add_itxt(name, words.encode(errors=ENCODING_ERRORS).decode())
    return text


def _stored(file: Image.Image) -> dict[str, Any]:
    """Return the metadata of an image file, as in ``GeneratedImage.metadata``, and those of other programs."""
    if file.format == "PNG":
        texts: dict[str, str] = getattr(file, "text", {})
        return {name: str(text) if name in _TEXTS else _value(text) for name, text in texts.items()}
    values = _value(str(file.getexif().get(_DESCRIPTION, "")))
    return values if isinstance(values, dict) else {}


def _value(text: str) -> Any:
    """Return the value of a text in JSON, or else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def composition_details(composition: Composition, edit: Edit | None) -> dict[str, Any]:
    """Return the values of a composition and an edit that are in use, as JSON values for the metadata."""
    given: dict[str, Any] = {
        "negative": composition.negative,
        "also": [list(one) for one in composition.also] or None,
        "then": composition.then,
        "switch": composition.switch if composition.then else None,
        "towards": composition.towards,
        "like": ", ".join(str(_source(image)) for image in composition.references) or None,
        "like_share": composition.like_share if composition.references else None,
        "init": _source(edit.photo if edit else None),
        "strength": edit.start if edit else None,
        "mask": _source(edit.mask if edit else None),
    }
    return {name: value for name, value in given.items() if value is not None}


def _source(image: Image.Image | None) -> str | None:
    """Return the path of the file that Pillow opened an image from."""
    return None if image is None else str(getattr(image, "filename", "") or "an image without a file")
