"""Resolve a training request into a plan, and reject invalid requests before any image is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from captionless.checkpoints.config import ModelConfig
from captionless.config.train_request import TrainRequest
from captionless.config.training import SUPER_RESOLUTION_WEIGHTING, TrainConfig, continued
from captionless.data.labels import FOLDERS
from captionless.errors import CaptionlessError
from captionless.training.network import network_config
from captionless.training.start import Start, find_start
from captionless.training.tracking import check_tracker

INHERITED = ("prediction", "schedule", "schedule_steps", "zero_terminal_snr", "network")
"""Settings that a run inherits from its initial model, because the weights are meaningless with other values."""

FREE_ON_RESUME = frozenset(
    {
        "images",
        "minutes",
        "precision",
        "accumulate",
        "checkpoint_activations",
        "checkpoint_minutes",
        "sample_grids",
        "early_stopping",
    }
)
"""Settings that may change when a run is resumed: its length, number format, use of memory, output
intervals and early stopping."""


@dataclass(frozen=True)
class TrainPlan:
    """A resolved training request, with its starting point and all its settings."""

    request: TrainRequest
    start: Start
    config: TrainConfig
    label_source: str | None = None  # see ``captionless.data.labels``; None for text-conditional training
    record: dict[str, Any] = field(default_factory=dict)  # of the plan, for ``config.json``

    @property
    def by_class(self) -> bool:
        """Whether the run is class-conditional instead of text-conditional."""
        return self.label_source is not None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes in pixels to read images at: the model's and, for a super-resolution stage, its base model's."""
        base = self.start.base_config
        return (self.config.size, base.size) if base else (self.config.size,)


def resolve(
    request: TrainRequest, given: dict[str, Any], say: Callable[[str], None], record: dict[str, Any] | None = None
) -> TrainPlan:
    """Return the plan of a training run, in which the ``given`` settings are completed to a full ``TrainConfig``.

    ``config.json`` keeps the ``record`` of how the settings came about.

    Raises:
        CaptionlessError: options conflict with each other, or with the model that the run continues.
    """
    if request.track:
        check_tracker(request.track)
    start = find_start(request)
    source = resolve_label_source(request, start)
    _check_kind(request, start, by_class=source is not None)
    config = resolve_settings(start, given, by_class=source is not None)
    if request.evaluate_every and not config.hold_out:
        raise CaptionlessError(
            "`evaluate_every` needs held-out images, but `hold_out` is 0. Add `hold_out=0.1`.",
            parameter="hold_out",
            code="conflicting_settings",
        )
    plan = TrainPlan(request, start, config, source, record or {})
    _say_what_starts_afresh(plan, say)
    return plan


def resolve_label_source(request: TrainRequest, start: Start) -> str | None:
    """Return the source of the labels: ``FOLDERS``, the path of a table, or None for text-conditional training.

    A table takes precedence over sub-folders. A resumed run uses its recorded source unless another is given.
    """
    source = str(request.labels) if request.labels is not None else FOLDERS if request.classes else None
    if not start.resumed or start.config is None:
        return source
    if source and not start.config.classes:
        name = "labels" if request.labels else "classes"
        raise CaptionlessError(
            f"`{name}={source if request.labels else True}` conflicts with the model being resumed, which is "
            "text-conditional. Leave it out, or start a new run in another folder with `start_from`.",
            parameter=name,
            value=source,
            code="contradicts_model",
        )
    return source or (start.config.training.labels or FOLDERS if start.config.classes else None)


def _check_kind(request: TrainRequest, start: Start, by_class: bool) -> None:
    """Raise if the options or the base model do not fit the kind of run: text-conditional or class-conditional."""
    base = start.base_config
    if base and bool(base.classes) != by_class:
        hint = "text-conditional, but this run is class-conditional. Leave `classes` and `labels` out."
        if base.classes:
            hint = "class-conditional, but this run is text-conditional. Add `classes=True` or `labels`."
        raise CaptionlessError(f"the base model is {hint}", parameter="classes", code="contradicts_model")
    for name in ("encoder", "vectors", "sample_prompts"):
        if by_class and getattr(request, name):
            raise CaptionlessError(
                f"`{name}` applies only to text-conditional training, but this run is class-conditional. Leave it out.",
                parameter=name,
                value=getattr(request, name),
                code="conflicting_settings",
            )


def resolve_settings(start: Start, given: dict[str, Any], *, by_class: bool = False) -> TrainConfig:
    """Return the settings of a run, in which given settings override recorded (resumed) or inherited ones."""
    if by_class:
        if given.get("condition_cosine", 1) != 1:
            raise CaptionlessError(
                f"`condition_cosine={given['condition_cosine']}` adds noise to image vectors, but a class-conditional "
                "run has none. Leave it out.",
                parameter="condition_cosine",
                value=given["condition_cosine"],
                code="conflicting_settings",
            )
        given = {**given, "condition_cosine": 1.0}
    if start.config is None:
        config = TrainConfig(**(_stage_defaults(start) | given))
    elif start.resumed:
        recorded = TrainConfig.from_record(start.config.training.settings)
        fixed = {name: value for name, value in dict(recorded).items() if name not in FREE_ON_RESUME}
        _refuse_changes(given, fixed, "being resumed", "start a new run in another folder with `start_from`")
        config = TrainConfig(**continued(recorded.given(), given))
    else:
        config = TrainConfig(**(_stage_defaults(start) | _inherited(start.config, given) | given))
    if start.base_config:
        _check_stage(start.base_config, config)
    start.space.check(config)
    network_config(
        start, config, start.config.denoiser.condition_width if start.config else 1
    )  # raises if it is invalid
    return config


def _refuse_changes(given: Mapping[str, Any], fixed: Mapping[str, Any], which: str, instead: str) -> None:
    """Raise if a given setting differs from its ``fixed`` value in a model."""
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise CaptionlessError(
                f"`{name}={given[name]}` conflicts with the model {which}, which was trained with {value}. Leave it "
                f"out, or {instead}.",
                parameter=name,
                value=given[name],
                code="contradicts_model",
            )


def _stage_defaults(start: Start) -> dict[str, Any]:
    """Return the defaults of a super-resolution stage: twice the size of the base model, its number of channels,
    background and share of held-out images, and a log-normal weighting.

    At high noise levels, the low-resolution image already determines nearly everything. Detail is generated at low
    noise levels: half of the log-normal levels have a standard deviation below 0.3, compared with a fifth of uniform
    times on a cosine schedule.
    """
    base = start.base_config
    if base is None:
        return {}
    return {
        "size": 2 * base.size,
        "grey": base.image_channels == 1,
        "background": base.training.background,
        "hold_out": TrainConfig.from_record(base.training.settings).hold_out,
        "weighting": SUPER_RESOLUTION_WEIGHTING,
    }


def _inherited(old: ModelConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run inherits from its initial model; raise if the given ones conflict."""
    recorded = TrainConfig.from_record(old.training.settings)
    fixed = {"grey": old.image_channels == 1} | {name: getattr(recorded, name) for name in INHERITED}
    _refuse_changes(given, fixed, "given by `start_from`", "train without `start_from`")
    shape = {"size": old.size, "width": old.denoiser.width, "tokens": old.denoiser.tokens}
    conditions: dict[str, Any] = {"mask": recorded.mask, "background": recorded.background}
    if not old.classes:
        conditions["condition_cosine"] = recorded.condition_cosine
    return fixed | shape | conditions


def _check_stage(base: ModelConfig, config: TrainConfig) -> None:
    """Raise if the settings do not fit the base model of a super-resolution stage."""
    if config.size <= base.size or config.size % base.size:
        parameter, problem = (
            "size",
            f"`size={config.size}` must be a multiple of the base model's size, {base.size}, and ",
        )
        problem += f"larger. Try `size={2 * base.size}`."
    elif config.grey != (base.image_channels == 1):
        kind = "colour" if config.grey else "grey"
        parameter, problem = (
            "grey",
            f"`grey` conflicts with the base model, which generates {kind} images. Leave it out.",
        )
    elif config.network == "course" or config.tokens:
        parameter, problem = "network", "a super-resolution stage has its own architecture, without attention. Leave "
        problem += "`network` and `tokens` out."
    else:
        return
    raise CaptionlessError(problem, parameter=parameter, value=getattr(config, parameter), code="contradicts_model")


def _say_what_starts_afresh(plan: TrainPlan, say: Callable[[str], None]) -> None:
    """Report what is initialised from scratch although the user may expect it to be continued."""
    start, out = plan.start, plan.request.out
    if plan.request.resume and not start.resumed:
        say(f"Nothing to resume in {out} yet: this run starts from the beginning.")
    anew = "so the condition input layers are re-initialised"
    if start.config and bool(start.config.classes) != plan.by_class:
        kinds = ("text-conditional", "class-conditional")
        say(f"{start.initialised_from} is {kinds[not plan.by_class]}, but this run is {kinds[plan.by_class]}, {anew}.")
    elif not start.same_condition_space:
        what = "different classes" if plan.by_class else "different encoders"
        say(f"{start.initialised_from} and the base model were trained with {what}, {anew}.")
