"""Train a small text-to-image diffusion model on a folder of images, without captions.

    import captionless

    captionless.train("examples/flowers", "runs/mine", minutes=60)
    generator = captionless.load("runs/mine")
    generator.generate("a red rose", n=4)[0].save("rose.png")

Heavy libraries such as PyTorch are imported only when one of the names below is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captionless._lazy import lazy_names
from captionless._version import __version__ as __version__

if TYPE_CHECKING:  # `as` exports a name to type checkers
    from captionless.conditioning.composition import Composition as Composition
    from captionless.config.sampling import SamplingConfig as SamplingConfig
    from captionless.config.training import TrainConfig as TrainConfig
    from captionless.encoders.dual_encoder import load_encoder as load_encoder
    from captionless.encoders.embeddings import embed as embed
    from captionless.errors import CaptionlessError as CaptionlessError
    from captionless.evaluation.run import evaluate as evaluate
    from captionless.generation.editing import Edit as Edit
    from captionless.generation.generator import Generator as Generator
    from captionless.generation.generator import load as load
    from captionless.generation.grids import sample_grid as sample_grid
    from captionless.generation.image import GeneratedImage as GeneratedImage
    from captionless.training.run import train as train

_HOMES = {
    "CaptionlessError": "errors",
    "Composition": "conditioning.composition",
    "Edit": "generation.editing",
    "GeneratedImage": "generation.image",
    "Generator": "generation.generator",
    "SamplingConfig": "config.sampling",
    "TrainConfig": "config.training",
    "embed": "encoders.embeddings",
    "evaluate": "evaluation.run",
    "load": "generation.generator",
    "load_encoder": "encoders.dual_encoder",
    "sample_grid": "generation.grids",
    "train": "training.run",
}

__all__ = sorted([*_HOMES, "__version__"])
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
