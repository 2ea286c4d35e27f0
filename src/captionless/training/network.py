"""Build the network of a training run from its settings: its shape, initial weights and noise schedule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from captionless.checkpoints.model import load_model
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models.expand import check_expansion, expand, shrinks
from captionless.models.presets import (
    SUPER_RESOLUTION_MULTIPLIERS,
    course_denoiser,
    default_patch,
    super_resolution_denoiser,
)
from captionless.models.unet import CONDITION_LAYERS, Denoiser, DenoiserConfig
from captionless.training.start import Start, initial_folder

OVERRIDES = ("multipliers", "attention", "patch", "blocks")
"""Settings that replace what the network has by default."""


def denoiser_config(start: Start, config: TrainConfig, condition_width: int) -> DenoiserConfig:
    """Return the shape of the network to train.

    Raises:
        CaptionlessError: the size does not divide, or the model started from cannot expand into this shape.
    """
    if start.config is None:
        new = _overridden(_new(config, condition_width, upsamples=start.base is not None), config)
    else:
        new = _expanded(start, start.config.denoiser, config, condition_width)
        check_expansion(start.config.denoiser, new)
    new.check_size(config.size)
    return new


def _new(config: TrainConfig, condition_width: int, upsamples: bool) -> DenoiserConfig:
    """Return the default shape of a network with random weights."""
    channels, width, dropout = config.channels, config.width, config.dropout
    if upsamples:
        return super_resolution_denoiser(config.size, channels, width, condition_width, dropout)
    if config.network == "course":
        course = course_denoiser(condition_width, channels)
        return replace(course, width=width, dropout=dropout, tokens=config.tokens)
    return DenoiserConfig(
        channels,
        default_patch(config.size),
        width,
        condition_width=condition_width,
        dropout=dropout,
        tokens=config.tokens,
        input_skip=True,
    )


def _expanded(start: Start, old: DenoiserConfig, config: TrainConfig, condition_width: int) -> DenoiserConfig:
    """Return the shape of a network that starts with the weights of one of shape ``old``."""
    larger = start.config is not None and config.size > start.config.size
    patch = old.patch
    if larger and config.network != "course" and start.base is None and default_patch(config.size) % old.patch == 0:
        patch = default_patch(config.size)
    new = replace(
        old,
        patch=patch,
        width=config.width,
        dropout=config.dropout,
        condition_width=condition_width,
        tokens=config.tokens,
        input_skip=old.input_skip or config.network != "course",
    )
    if start.base is not None and new.width > old.width:
        # A wider super-resolution stage gets the levels of a new one, unless one of the old would shrink.
        usual = replace(new, multipliers=SUPER_RESOLUTION_MULTIPLIERS)
        new = new if shrinks(old, usual) else usual
    return _overridden(new, config)


def _overridden(shape: DenoiserConfig, config: TrainConfig) -> DenoiserConfig:
    """Return the shape with the values that the settings override."""
    given: dict[str, Any] = {name: getattr(config, name) for name in OVERRIDES}
    new = replace(shape, **{name: value for name, value in given.items() if value is not None})
    levels = len(new.multipliers)
    beyond = [level for level in config.attention or () if level >= levels]
    if beyond:
        raise CaptionlessError(
            f"`attention` names level {beyond[0]}, and the network has the levels 0 to {levels - 1}. Leave that level "
            "out, or add one to `multipliers`."
        )
    return replace(new, attention=tuple(level for level in new.attention if level < levels))


def initial_network(start: Start, wanted: DenoiserConfig, *, by_class: bool) -> Denoiser:
    """Return the network before the first step: with random weights, or expanded from the model started from.

    The layers that read the condition are re-initialised if that model's conditions differ: it is class-conditional and
    the run is text-conditional or the reverse, or its encoder or its classes are different.
    """
    fresh = Denoiser(wanted)
    if start.initialised_from is None or start.resumed or start.config is None:
        return fresh
    source = initial_folder(start.initialised_from, upsamples=start.base is not None)
    expanded = expand(load_model(source).denoiser, wanted)
    if bool(start.config.classes) != by_class or not start.same_condition_space:
        new = fresh.state_dict()
        afresh = {name: new[name] for name in CONDITION_LAYERS if name in new}
        expanded.load_state_dict({**expanded.state_dict(), **afresh})
    return expanded


def noise_schedule(config: TrainConfig) -> AnySchedule:
    """Return the noise schedule that the settings name."""
    if config.schedule == "linear":
        return LinearSchedule(config.schedule_steps, zero_terminal_snr=config.zero_terminal_snr)
    return SCHEDULE_KINDS[config.schedule]()


def initial_schedule(start: Start, config: TrainConfig, wanted: DenoiserConfig) -> AnySchedule:
    """Return the noise schedule of a training run: from its settings, or from the model resumed or started from.

    A network expanded to a larger patch averages over ``k x k`` of the new pixels, and thereby over their noise. The
    cosine schedule is shifted so that it sees as much noise at each time as before; without that it would have to
    relearn what it knew.
    """
    if start.config is None:
        return noise_schedule(config)
    schedule, k = start.config.schedule, wanted.patch / start.config.denoiser.patch
    if k > 1 and isinstance(schedule, CosineSchedule):
        return replace(schedule, shift=schedule.shift - 2 * math.log(k))
    return schedule
