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

__version__ = "0.1.0"

if TYPE_CHECKING:
    from captionless.composition import Composition
    from captionless.editing import Edit
    from captionless.encoders import load_encoder
    from captionless.errors import CaptionlessError
    from captionless.evaluation.assess import assess
    from captionless.evaluation.measure import evaluate
    from captionless.generator import Generator, load
    from captionless.sampling import Sampling
    from captionless.training import train
    from captionless.vectors import embed

_HOMES = {
    "CaptionlessError": "errors",
    "Composition": "composition",
    "Edit": "editing",
    "Generator": "generator",
    "Sampling": "sampling",
    "assess": "evaluation.assess",
    "embed": "vectors",
    "evaluate": "evaluation.measure",
    "load": "generator",
    "load_encoder": "encoders",
    "train": "training",
}

__all__ = [
    "CaptionlessError",
    "Composition",
    "Edit",
    "Generator",
    "Sampling",
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
