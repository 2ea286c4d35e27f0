"""Generate images from prompts: a model in memory, its results, and requests that end in a folder of files.

    generator = load("runs/mine")
    images = generator.generate(["a red rose", "a daisy"], n=4)
    sample_grid(images).save("flowers.png")

Each name is imported when first used, so that reading prompts or options needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captionless._lazy import lazy_names

if TYPE_CHECKING:
    from captionless.generation.editing import Edit
    from captionless.generation.generator import Generator, load
    from captionless.generation.grids import sample_grid
    from captionless.generation.image import GeneratedImage
    from captionless.generation.prompts import Prompt, read_prompts
    from captionless.generation.request import GenerationRequest, generate_into
    from captionless.generation.sample import Stage, to_images
    from captionless.generation.trajectory import Trajectory
    from captionless.generation.writer import ImageWriter

_MODULES = {
    "Edit": "editing",
    "GeneratedImage": "image",
    "GenerationRequest": "request",
    "Generator": "generator",
    "ImageWriter": "writer",
    "Prompt": "prompts",
    "Stage": "sample",
    "Trajectory": "trajectory",
    "generate_into": "request",
    "load": "generator",
    "read_prompts": "prompts",
    "sample_grid": "grids",
    "to_images": "sample",
}

__all__ = [
    "Edit",
    "GeneratedImage",
    "GenerationRequest",
    "Generator",
    "ImageWriter",
    "Prompt",
    "Stage",
    "Trajectory",
    "generate_into",
    "load",
    "read_prompts",
    "sample_grid",
    "to_images",
]


__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)
