"""The options of ``captionless generate`` besides the sampling settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationInfo, field_validator

from captionless.config.base import Config, setting
from captionless.config.sampling import SamplingConfig

_PARTNERS = {
    "switch": "then",
    "towards_share": "towards",
    "like_share": "like",
    "strength": "init",
    "mask": "init",
}
"""For each option that has no effect on its own, the option that it requires."""


class GenerateRequest(Config):
    """What to generate, with which model, and where to write it."""

    words: tuple[str, ...] = setting((), "What the image shows.", flag="", metavar="PROMPT")
    prompts: Path | None = setting(
        None, "A file of prompts, one per line or as JSON lines; - reads standard input.", metavar="FILE"
    )
    model: str = setting(
        "bundled", "A model folder, 'bundled' for the included flower model, or user/repo[@revision] on the Hub."
    )
    encoder: str | None = setting(None, "The new location of the model's encoder, if it was moved.", metavar="FOLDER")
    n: int | None = setting(None, "Images per prompt.", shown="1; with `towards` 8", flag="-n")
    seed: int = setting(0, "Seed of each prompt's first image; further images use consecutive seeds.")
    out: Path = setting(Path("images"), "The output folder; existing files are never overwritten.")
    trajectory: bool = setting(False, "Also write the denoising steps of each image as a strip and as a GIF.")
    classes: tuple[str, ...] = setting(
        (),
        "A class to show, for a class-conditional model. Repeatable.",
        panel="What to show",
        flag="--class",
        metavar="NAME",
    )
    negative: str | None = setting(None, "A prompt to guide away from.", metavar="TEXT")
    also: tuple[str, ...] = setting(
        (),
        "Another prompt to combine with the first; its weight is 1 by default, and a negative weight guides away from "
        "it. Repeatable.",
        metavar="TEXT[:WEIGHT]",
    )
    then: str | None = setting(None, "A prompt that replaces the first one during sampling.", metavar="TEXT")
    switch: float = setting(0.5, "Fraction of the time from noise to image after which `then` takes over.")
    towards: str | None = setting(
        None,
        "Interpolate from the prompt to this one in even steps, with the same noise for all images.",
        metavar="TEXT",
    )
    towards_share: float | None = setting(
        None, "One place between the prompt (0) and `towards` (1) instead, for images of several seeds."
    )
    like: Path | None = setting(
        None, "A reference image to use instead of a prompt or together with one.", metavar="IMAGE"
    )
    like_share: float = setting(0.5, "Weight of `like` in its mixture with the prompt, from 0 to 1.")
    init: Path | None = setting(None, "A photograph to start from.", panel="Start from a photograph", metavar="IMAGE")
    strength: float | None = setting(
        None, "How much of `init` is replaced, from 0.001 (nothing) to 1 (everything).", shown="0.6; with `mask` 1"
    )
    mask: Path | None = setting(
        None,
        "An image of the same size as `init`; only its white (or transparent) areas are replaced.",
        metavar="IMAGE",
    )
    guidance: tuple[float, ...] = setting(
        (SamplingConfig().guidance,),
        f"{SamplingConfig.model_fields['guidance'].description} Several values, such as -1,0,1,3, "
        "are compared side by side.",
        panel="Guidance",
        example=(2,),
        metavar="W[,W...]",
    )

    @field_validator(*_PARTNERS)
    @classmethod
    def _check_partner(cls, value: Any, info: ValidationInfo) -> Any:
        partner = _PARTNERS[str(info.field_name)]
        if info.data.get(partner) is None:
            raise ValueError(
                f"`{info.field_name}` has no effect without `{partner}`. Add `{partner}`, or leave "
                f"`{info.field_name}` out."
            )
        return value
