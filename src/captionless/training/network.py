"""Build the network of a training run: its architecture, initial weights and noise schedule."""

from __future__ import annotations

import math
from dataclasses import replace

from captionless.checkpoints.model import load_model
from captionless.config.training import TrainConfig
from captionless.device import memory_bytes
from captionless.diffusion.schedules import SCHEDULE_KINDS, AnySchedule, CosineSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.models.expand import check_expansion, expand
from captionless.models.presets import course_denoiser, default_patch, super_resolution_denoiser
from captionless.models.unet import CONDITION_LAYERS, Denoiser, DenoiserConfig, weight_count
from captionless.training.start import Start, start_folder


def network_config(start: Start, config: TrainConfig, condition_width: int) -> DenoiserConfig:
    """Return the architecture to train: the default or that of the initial model, with the given settings applied.

    Raises:
        CaptionlessError: the architecture does not fit the image size, or the initial model cannot be expanded to it.
    """
    channels, side = start.space.channels(config.channels), config.size // start.space.factor
    shape = _default_shape(config, channels, side, upsamples=start.base is not None)
    if start.config is not None:
        patch, shape = shape.patch, start.config.denoiser
        larger = config.size > start.config.size and config.network != "course" and start.base is None
        if larger and patch % shape.patch == 0:
            shape = replace(shape, patch=patch)
    given = {name: getattr(config, name) for name in ("multipliers", "attention", "patch", "blocks")}
    new = replace(
        shape,
        width=config.width,
        dropout=config.dropout,
        condition_width=condition_width,
        tokens=config.tokens,
        input_skip=shape.input_skip or config.network != "course",
        crops=shape.crops or config.crop < 1,
        **{name: value for name, value in given.items() if value is not None},
    )
    levels = len(new.multipliers)
    if any(level >= levels for level in config.attention or ()):
        raise CaptionlessError(
            f"`attention` contains level {max(new.attention)}, but the network only has levels 0 to {levels - 1}. "
            "Remove that level, or add a level to `multipliers`.",
            parameter="attention",
            value=config.attention,
            code="invalid_setting",
        )
    new = replace(new, attention=tuple(level for level in new.attention if level < levels))
    if start.config is not None:
        check_expansion(start.config.denoiser, new)
    new.check_size(config.size, start.space.factor)
    _check_memory(new, config, side)
    return new


def _check_memory(shape: DenoiserConfig, config: TrainConfig, side: int) -> None:
    """Raise if the memory of this machine holds neither the weights nor a batch of images: absurd settings are told
    before anything is read."""
    # Weights, gradients, average and a moment; images, and the first activations of one of them.
    weights, pixels = 16 * weight_count(shape), 4 * shape.channels * side**2 * config.batch
    for name, needed in (("width", weights), ("batch", pixels)):
        if needed > memory_bytes():
            raise CaptionlessError(
                f"`{name}={getattr(config, name)}` with `size={config.size}` needs {needed / 1e9:,.0f} GB of memory, "
                f"and this machine has {memory_bytes() / 1e9:,.0f}. Choose a smaller `{name}`.",
                parameter=name,
                value=getattr(config, name),
                code="out_of_memory",
            )


def _default_shape(config: TrainConfig, channels: int, side: int, upsamples: bool) -> DenoiserConfig:
    if upsamples:
        return super_resolution_denoiser(side, channels, config.width, condition_width=1)
    if config.network == "course":
        return course_denoiser(channels=channels)
    return DenoiserConfig(channels, default_patch(side))


def initial_network(start: Start, wanted: DenoiserConfig, *, by_class: bool) -> Denoiser:
    """Return the network with its initial weights, which are random or expanded from the initial model.

    The layers that read the condition are re-initialised if the initial model has another encoder, other classes or
    another kind of condition (text or class).
    """
    fresh = Denoiser(wanted)
    if start.initialised_from is None or start.resumed or start.config is None:
        return fresh
    source = start_folder(start.initialised_from, upsamples=start.base is not None)
    expanded = expand(load_model(source).denoiser, wanted)
    if bool(start.config.classes) != by_class or not start.same_condition_space:
        new = fresh.state_dict()
        afresh = {name: new[name] for name in CONDITION_LAYERS if name in new}
        expanded.load_state_dict({**expanded.state_dict(), **afresh})
    return expanded


def noise_schedule(config: TrainConfig) -> AnySchedule:
    """Return the noise schedule selected by the settings."""
    if config.schedule == "linear":
        return LinearSchedule(config.schedule_steps, zero_terminal_snr=config.zero_terminal_snr)
    return SCHEDULE_KINDS[config.schedule]()


def initial_schedule(start: Start, config: TrainConfig, wanted: DenoiserConfig) -> AnySchedule:
    """Return the noise schedule of a training run: that of the resumed or initial model, else that of the settings.

    A network expanded to a larger patch averages ``k x k`` of the new pixels, and thereby their noise. The cosine
    schedule is shifted so that the network sees the same noise level at each time as before; otherwise it would have to
    relearn what it has learned.
    """
    if start.config is None:
        return noise_schedule(config)
    schedule, k = start.config.schedule, wanted.patch / start.config.denoiser.patch
    if k > 1 and isinstance(schedule, CosineSchedule):
        return replace(schedule, shift=schedule.shift - 2 * math.log(k))
    return schedule
