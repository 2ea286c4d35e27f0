"""Teach a small diffusion model to paint from words, given nothing but a folder of pictures.

    import captionless

    captionless.train("photos", "runs/mine", minutes=60)
    generator = captionless.load("runs/mine")
    generator.generate(["a red rose"], n=4)[0].save("rose.png")

The heavy libraries are imported when one of the names below is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captionless._version import __version__

if TYPE_CHECKING:
    from captionless.conditioning.composition import Composition
    from captionless.config.sampling import SamplingConfig
    from captionless.encoders.dual_encoder import load_encoder
    from captionless.encoders.embeddings import embed
    from captionless.errors import CaptionlessError
    from captionless.evaluation.assessment.run import assess
    from captionless.evaluation.run import evaluate
    from captionless.generation.editing import Edit
    from captionless.generation.generator import Generator, load
    from captionless.training.run import train

_HOMES = {
    "CaptionlessError": "errors",
    "Composition": "conditioning.composition",
    "Edit": "generation.editing",
    "Generator": "generation.generator",
    "SamplingConfig": "config.sampling",
    "assess": "evaluation.assessment.run",
    "embed": "encoders.embeddings",
    "evaluate": "evaluation.run",
    "load": "generation.generator",
    "load_encoder": "encoders.dual_encoder",
    "train": "training.run",
}

__all__ = [
    "CaptionlessError",
    "Composition",
    "Edit",
    "Generator",
    "SamplingConfig",
    "__version__",
    "assess",
    "embed",
    "evaluate",
    "load",
    "load_encoder",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"captionless.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'captionless' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
