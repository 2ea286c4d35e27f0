"""What a request for images holds beside its sampling settings: the source of these options for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationInfo, field_validator

from captionless.config.base import Config, setting
from captionless.config.sampling import SamplingConfig

_PARTNERS = {"switch": "then", "like_share": "like", "strength": "init", "mask": "init"}
"""Options that have no effect without another one."""


class GenerateRequest(Config):
    """What to generate, with which model, and where to write it."""

    words: tuple[str, ...] = setting((), "What the image shows.", flag="", metavar="PROMPT")
    prompts: Path | None = setting(
        None, "A file of prompts, one per line, or JSON lines; - reads standard input.", metavar="FILE"
    )
    model: str = setting("bundled", "A model folder, or 'bundled', the flower model.")
    encoder: str | None = setting(None, "Where the model's own encoder is now, if it has moved.", metavar="FOLDER")
    n: int | None = setting(None, "Images per prompt.", shown="1; with `towards` 8", flag="-n")
    seed: int = setting(0, "Seed of a prompt's first image; the next ones have the seeds that follow.")
    out: Path = setting(Path("images"), "The folder to write into; existing files are never overwritten.")
    trajectory: bool = setting(False, "Also write the denoising steps of each image: a strip and a GIF.")
    classes: tuple[str, ...] = setting(
        (),
        "A class to show, where the model was trained with --classes. Repeatable.",
        panel="What to show",
        flag="--class",
        metavar="NAME",
    )
    negative: str | None = setting(None, "A prompt to guide away from.", metavar="TEXT")
    also: tuple[str, ...] = setting(
        (),
        "Another prompt at the same time; its weight is 1 unless given, and below 0 guides away from it. Repeatable.",
        metavar="TEXT[:WEIGHT]",
    )
    then: str | None = setting(None, "Another prompt that takes over on the way.", metavar="TEXT")
    switch: float = setting(0.5, "Share of the way after which `then` takes over.")
    towards: str | None = setting(
        None, "Blend from the prompt to this one in even steps, all from the noise of one seed.", metavar="TEXT"
    )
    like: Path | None = setting(None, "An image of what to show, with a prompt or without.", metavar="IMAGE")
    like_share: float = setting(0.5, "Its share in the mixture with the prompt.")
    init: Path | None = setting(None, "A photograph to start from.", panel="Start from a photograph", metavar="IMAGE")
    strength: float | None = setting(
        None, "How much of it is replaced, from above 0 (nothing) to 1 (everything).", shown="0.6; with `mask` 1"
    )
    mask: Path | None = setting(
        None, "An image of its size: only what is white (or transparent) here is replaced.", metavar="IMAGE"
    )
    guidance: tuple[float, ...] = setting(
        (SamplingConfig().guidance,),
        f"{SamplingConfig.model_fields['guidance'].description} Several, such as -1,0,1,3, are compared side by side.",
        panel="Guidance",
        example=(3,),
        metavar="W[,W...]",
    )

    @field_validator(*_PARTNERS)
    @classmethod
    def _check_partner(cls, value: Any, info: ValidationInfo) -> Any:
        partner = _PARTNERS[str(info.field_name)]
        if info.data.get(partner) is None:
            raise ValueError(
                f"`{info.field_name}` has no effect without `{partner}`. Add `{partner}`, or leave it out."
            )
        return value
