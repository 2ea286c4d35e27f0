"""Where a training that is to enlarge another model's pictures starts, and what of it can be refused at once."""

from __future__ import annotations

from pathlib import Path

from captionless.checkpoints.config import ModelConfig, base_folder, load_config, model_folder
from captionless.config.options import TrainOptions
from captionless.config.training import SUPER_RESOLUTION_WEIGHTING, TrainConfig
from captionless.errors import CaptionlessError


def small_model(name: str | Path) -> Path:
    """Return the folder of the model called ``name``; if it enlarges, of the one whose pictures it enlarges."""
    folder = model_folder(name)
    return folder if load_config(name).base_size is None else base_folder(folder)


def begun_from(name: str | Path, enlarges: bool) -> Path:
    """Return the folder of the weights that a training begins with where it is begun from the model called ``name``.

    Raises:
        CaptionlessError: a model that enlarges is to begin from one that does not.
    """
    if not enlarges:
        return small_model(name)
    if load_config(name).base_size is None:
        raise CaptionlessError(
            f"a model that enlarges cannot begin from {name}, which paints from noise alone. Leave --from out; "
            "--enlarge names the model whose pictures are enlarged."
        )
    return model_folder(name)


def check_resumed(config: ModelConfig, out: Path, enlarge: str | Path | None) -> None:
    """Raise where the model in ``out``, with this config, is to be resumed as one that enlarges other pictures."""
    begun = config.training.base_model
    if enlarge is not None and str(enlarge) != begun:
        what = f"enlarges the pictures of {begun}" if begun else "paints from noise alone"
        raise CaptionlessError(
            f"--resume goes on with {out}, which {what}. Leave --enlarge out, or choose another --out."
        )


def check_kind(small: ModelConfig, by_class: bool) -> None:
    """Raise where the model to be enlarged and the training are not both of words, or both of classes."""
    if bool(small.classes) == by_class:
        return
    if by_class:
        raise CaptionlessError("the model whose pictures are to be enlarged was trained on words. Leave --classes out.")
    raise CaptionlessError(
        "the model whose pictures are to be enlarged was trained on classes. Add --classes or --labels."
    )


def defaults_for(small: ModelConfig) -> TrainOptions:
    """Return the defaults of a training that enlarges the pictures of ``small``: of the same make, twice as large.

    Where there is much noise, the small picture tells nearly all that is to be known. Detail is made where there is
    little: half of the log-normal levels have a std of less than 0.3, and of uniform times on a cosine a fifth.
    """
    return {"size": 2 * small.size, "grey": small.denoiser.channels == 1, "weighting": SUPER_RESOLUTION_WEIGHTING}


def check_settings(small: ModelConfig, settings: TrainConfig) -> None:
    """Raise where pictures of ``small`` cannot be enlarged as the settings ask."""
    if settings.size <= small.size or settings.size % small.size:
        raise CaptionlessError(
            f"pictures of {small.size} pixels cannot be enlarged to --size {settings.size}, no whole multiple. "
            f"Try --size {2 * small.size}."
        )
    if settings.grey != (small.denoiser.channels == 1):
        raise CaptionlessError("--grey contradicts the model whose pictures are to be enlarged. Leave it out.")
    if settings.network == "course" or settings.tokens:
        raise CaptionlessError(
            "a model that enlarges has a network of its own, without attention. Leave --network and --tokens out."
        )
