"""Resolve a training request into a plan; whatever can be refused before an image is read is refused here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captionless.checkpoints.config import ModelConfig
from captionless.config.keyword_types import TrainOptions
from captionless.config.training import (
    BOUND,
    LENGTH,
    SUPER_RESOLUTION_WEIGHTING,
    TrainConfig,
    check_unchanged,
    settings_from_dict,
)
from captionless.data.labels import FOLDERS
from captionless.errors import CaptionlessError
from captionless.training.network import denoiser_config
from captionless.training.start import Start, find_start
from captionless.training.tracking import check_tracker


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of ``captionless.train``; see there."""

    folder: Path
    out: Path
    encoder: str | None = None
    vectors: str | Path | None = None
    classes: bool = False
    labels: str | Path | None = None
    start_from: str | Path | None = None
    enlarge: str | Path | None = None
    resume: bool = False
    sample_prompts: Sequence[str] = ()
    evaluate_every: int | None = None
    track: str | None = None
    settings: TrainOptions = field(default_factory=TrainOptions)


@dataclass(frozen=True)
class Plan:
    """A resolved training request: what to train, from where, with which settings.

    Args:
        request: the request.
        start: the weights that the run starts from.
        config: all training settings.
        label_source: where the labels come from (see ``captionless.data.labels``); None for text-conditional
            training.
    """

    request: TrainRequest
    start: Start
    config: TrainConfig
    label_source: str | None = None

    @property
    def by_class(self) -> bool:
        """Whether the run is class-conditional instead of text-conditional."""
        return self.label_source is not None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides in pixels at which each image is read: the model's and, for super-resolution, its base model's."""
        base = self.start.base_size
        return (self.config.size,) if base is None else (self.config.size, base)


def resolve(request: TrainRequest, say: Callable[[str], None]) -> Plan:
    """Return the plan of a training run, with every setting decided.

    Raises:
        CaptionlessError: the request conflicts with itself, or with the model that it continues.
    """
    if any(not prompt.strip() for prompt in request.sample_prompts):
        raise CaptionlessError("a sample prompt is empty. Write what the sample grids should show.")
    if request.evaluate_every is not None and request.evaluate_every < 1:
        raise CaptionlessError(
            f"`evaluate_every` must be at least 1 image, not {request.evaluate_every}. Try `evaluate_every=20000`."
        )
    if request.track:
        check_tracker(request.track)
    start = find_start(request.folder, request.out, request.start_from, request.enlarge, request.resume)
    source = find_label_source(request, start)
    _check_kind(request, start, by_class=source is not None)
    config = resolve_settings(start, request.settings, by_class=source is not None)
    if request.evaluate_every and not config.hold_out:
        raise CaptionlessError("`evaluate_every` needs held-out images, and none are set aside. Add `hold_out=0.1`.")
    plan = Plan(request, start, config, source)
    _say_what_starts_afresh(plan, say)
    return plan


def find_label_source(request: TrainRequest, start: Start) -> str | None:
    """Return the source of the labels: ``FOLDERS`` or a table's path; None for text-conditional training.

    A table takes precedence over sub-folders; a resumed run takes its recorded source unless another is given.
    """
    source = str(request.labels) if request.labels is not None else FOLDERS if request.classes else None
    if not start.resumed or start.config is None:
        return source
    if source and not start.config.classes:
        raise CaptionlessError(
            "`classes=True` conflicts with the model being resumed, which is text-conditional. Leave it out, or start "
            "a new run in another folder with `start_from`."
        )
    return source or (start.config.training.labels or FOLDERS if start.config.classes else None)


def _check_kind(request: TrainRequest, start: Start, by_class: bool) -> None:
    """Raise if a class-conditional run is given text-conditional options, or the base model is of the other kind."""
    if start.base and start.bound and start.bound.classes and not by_class:
        raise CaptionlessError("the base model is class-conditional. Add `classes=True` or `labels`.")
    if not by_class:
        return
    if start.base and start.bound and not start.bound.classes:
        raise CaptionlessError("the base model is text-conditional. Leave `classes` and `labels` out.")
    given = {"encoder": request.encoder, "vectors": request.vectors, "sample_prompts": request.sample_prompts or None}
    for name, value in given.items():
        if value is not None:
            raise CaptionlessError(
                f"`{name}` applies only to text-conditional training, and this run is class-conditional. Leave it out."
            )


def resolve_settings(start: Start, given: TrainOptions, *, by_class: bool = False) -> TrainConfig:
    """Return the settings: those recorded (resume), or the given ones over those of the model started from."""
    chosen: dict[str, Any] = {**given}
    if by_class:
        if chosen.get("condition_cosine", 1.0) != 1:
            raise CaptionlessError(
                f"`condition_cosine={chosen['condition_cosine']}` adds noise to image vectors, and classes have none. "
                "Leave it out."
            )
        chosen["condition_cosine"] = 1.0
    if start.config is None:
        config = TrainConfig(**(_stage_defaults(start) | chosen))
    elif start.resumed:
        recorded = settings_from_dict(start.config.training.settings)
        check_unchanged(given, recorded)
        config = recorded.replace(**{name: value for name, value in given.items() if name in LENGTH})
    else:
        config = TrainConfig(**(_stage_defaults(start) | _inherited(start.config, chosen) | chosen))
    if start.base and start.bound:
        _check_stage(start.bound, config)
    denoiser_config(start, config, start.config.denoiser.condition_width if start.config else 1)  # refuses misfits
    return config


def _stage_defaults(start: Start) -> dict[str, Any]:
    """Return the defaults of a super-resolution stage: twice the base model's size, its colour, its own weighting.

    At high noise levels the low-resolution image says nearly all there is to know. Detail is made at low ones: half of
    the log-normal levels have a std below 0.3, against a fifth of uniform times on a cosine schedule.
    """
    if not start.base or not start.bound:
        return {}
    grey = start.bound.denoiser.channels == 1
    return {"size": 2 * start.bound.size, "grey": grey, "weighting": SUPER_RESOLUTION_WEIGHTING}


def _inherited(old: ModelConfig, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a run inherits from the model it starts from; refuse conflicting ones."""
    recorded = settings_from_dict(old.training.settings)
    grey = old.denoiser.channels == 1
    bound = {"grey": grey} | {name: getattr(recorded, name) for name in BOUND}
    for name, value in bound.items():
        if chosen.get(name, value) != value:
            raise CaptionlessError(
                f"`{name}={chosen[name]}` conflicts with the model given by `start_from`, which was trained with "
                f"{value}. Leave it out, or train without `start_from`.",
            )
    same: dict[str, Any] = {
        "size": old.size,
        "width": old.denoiser.width,
        "tokens": old.denoiser.tokens,
    }
    same["mask"] = recorded.mask
    if not old.classes:
        same["condition_cosine"] = recorded.condition_cosine
    return bound | same


def _check_stage(base: ModelConfig, config: TrainConfig) -> None:
    """Raise if images of the base model cannot be upsampled as the settings say."""
    if config.size <= base.size or config.size % base.size:
        raise CaptionlessError(
            f"images of {base.size} pixels cannot be upsampled to {config.size}, which is not an integer multiple. Try "
            f"`size={2 * base.size}`."
        )
    if config.grey != (base.denoiser.channels == 1):
        raise CaptionlessError("`grey` conflicts with the base model. Leave it out.")
    if config.network == "course" or config.tokens:
        raise CaptionlessError(
            "a super-resolution stage has a network of its own, without attention. Leave `network` and `tokens` out."
        )


def _say_what_starts_afresh(plan: Plan, say: Callable[[str], None]) -> None:
    """Report what starts anew although the user may expect it to continue."""
    start, out = plan.start, plan.request.out
    if plan.request.resume and not start.resumed:
        say(f"Nothing to resume in {out} yet: this run starts from the beginning.")
    anew = "so its condition input layers are re-initialised"
    if start.config and bool(start.config.classes) != plan.by_class:
        kinds = ("text-conditional", "class-conditional")
        say(f"{start.initialised_from} is {kinds[not plan.by_class]}, and this run is {kinds[plan.by_class]}, {anew}.")
    elif not start.same_condition_space:
        what = "different classes" if plan.by_class else "a different encoder"
        say(f"{start.initialised_from} was trained with {what} from the base model's, {anew}.")
