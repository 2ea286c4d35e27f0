"""Where a training starts: anew, from another model's weights, or where it stopped. All that can be refused before
any picture is read is refused here."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from captionless.checkpoints.config import CONFIG, ModelConfig, base_folder, load_config
from captionless.checkpoints.image_list import TRAIN, read_image_list, read_labels
from captionless.checkpoints.model import BANK, STATE, load_model
from captionless.checkpoints.tensors import read_tensors
from captionless.config.options import TrainOptions
from captionless.config.training import (
    BOUND,
    LENGTH,
    TrainConfig,
    check_unchanged,
    settings_from_dict,
)
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
from captionless.training.dataset import TrainingImages
from captionless.training.enlargement import begun_from, check_resumed, check_settings, defaults_for, small_model
from captionless.training.labelled_dataset import check_labels


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    Args:
        config: of the model resumed or begun from; None for a training from scratch.
        model: name of the model begun from, if any.
        resumed: go on with ``config``'s own training.
        small: folder of the model whose pictures are to be enlarged; None for a model that paints from noise alone.
    """

    config: ModelConfig | None = None
    model: str | None = None
    resumed: bool = False
    small: Path | None = None

    @cached_property
    def bound(self) -> ModelConfig | None:
        """The config whose encoder or classes are binding."""
        return load_config(self.small) if self.small else self.config

    @property
    def base_size(self) -> int | None:
        """Side of the small pictures that are to be enlarged."""
        return self.bound.size if self.small and self.bound else None

    @property
    def understood(self) -> bool:
        """Whether the model begun from, if any, has the same encoder or classes as ``bound``."""
        return self.config is None or (
            self.bound is not None and self.config.condition_space == self.bound.condition_space
        )


def find_start(
    folder: Path,
    out: Path,
    start_from: str | Path | None,
    resume: bool,
    say: Callable[[str], None],
    enlarge: str | Path | None = None,
) -> Start:
    """Decide where to start from what lies in ``out``; refuse what would overwrite or mix models.

    A model that enlarges begins from another that does; any other model begins from its model of small pictures.
    """
    _check_out(folder, out)
    exists = (out / CONFIG).exists()
    name = None if start_from is None else str(start_from)
    if exists and not resume:
        raise CaptionlessError(f"{out} already holds a model. Add --resume to go on with it, or choose another --out.")
    if not exists:
        if resume:
            say(f"Nothing to resume in {out} yet: this training starts at its beginning.")
        small = small_model(enlarge) if enlarge is not None else None
        return Start(load_config(begun_from(name, small is not None)) if name else None, name, small=small)
    config = load_config(out)
    begun = config.training.initialised_from
    if name is not None and name != begun:
        raise CaptionlessError(
            f"--resume goes on with {out}, which was begun from {begun or 'nothing'}, not from {name}. "
            "Leave --from out, or choose another --out."
        )
    if not (out / STATE).is_file() or not read_image_list(out):
        raise CaptionlessError(
            f"{out} cannot be resumed: its training state or its pictures.csv is gone. "
            f"Begin anew from it: --from {out} --out ANOTHER."
        )
    check_resumed(config, out, enlarge)
    return Start(config, begun, resumed=True, small=base_folder(out) if config.base_size else None)


def settle(start: Start, given: TrainOptions, *, by_class: bool = False) -> TrainConfig:
    """Return the settings: recorded ones (resume), or the given over those of the model begun from or the defaults."""
    if by_class:
        given = _of_classes(given)
    usual = defaults_for(start.bound) if start.small and start.bound else TrainOptions()
    if start.config is None:
        settings = TrainConfig(**(usual | given))
    elif start.resumed:
        recorded = settings_from_dict(start.config.training.settings)
        check_unchanged(given, recorded)
        changes: dict[str, Any] = {name: value for name, value in given.items() if name in LENGTH}
        settings = recorded.replace(**changes)
    else:
        settings = _inherited(start.config, usual, given)
    shape(start, settings, start.config.denoiser.condition_width if start.config else 1)
    return settings


def _of_classes(given: TrainOptions) -> TrainOptions:
    if given.get("condition_cosine", 1.0) != 1:
        raise CaptionlessError(
            f"--condition-cosine {given['condition_cosine']} blurs image vectors; a class is one or another. "
            "Leave it out."
        )
    return {**given, "condition_cosine": 1.0}


def shape(start: Start, settings: TrainConfig, condition_width: int) -> DenoiserConfig:
    """Return the shape of the network to train.

    Raises:
        CaptionlessError: the size does not divide, or the model begun from cannot be expanded into it.
    """
    if start.small is not None and start.bound is not None:
        check_settings(start.bound, settings)
    if start.config is None:
        new = _fresh_shape(settings, condition_width, enlarges=start.small is not None)
    else:
        old = start.config
        larger = settings.size > old.size and settings.network != "course" and start.small is None
        patch = _grown_patch(old.denoiser.patch, settings.size) if larger else old.denoiser.patch
        new = replace(
            old.denoiser,
            patch=patch,
            width=settings.width,
            dropout=settings.dropout,
            condition_width=condition_width,
            tokens=settings.tokens,
            input_skip=old.denoiser.input_skip or settings.network != "course",
        )
        if start.small is not None:
            new = _with_usual_levels(new, old.denoiser)
        check_expansion(old.denoiser, new)
    new.check_size(settings.size)
    return new


def _with_usual_levels(new: DenoiserConfig, old: DenoiserConfig) -> DenoiserConfig:
    """Return the shape of a wider enlarger with the levels of a fresh one, unless one of the old would shrink."""
    usual = replace(new, multipliers=SUPER_RESOLUTION_MULTIPLIERS)
    return usual if new.width > old.width and not shrinks(old, usual) else new


def _fresh_shape(settings: TrainConfig, condition_width: int, enlarges: bool) -> DenoiserConfig:
    if enlarges:
        return super_resolution_denoiser(
            settings.size, settings.channels, settings.width, condition_width, settings.dropout
        )
    if settings.network == "course":
        course = course_denoiser(condition_width, settings.channels)
        return replace(course, width=settings.width, dropout=settings.dropout, tokens=settings.tokens)
    return DenoiserConfig(
        settings.channels,
        default_patch(settings.size),
        settings.width,
        condition_width=condition_width,
        dropout=settings.dropout,
        tokens=settings.tokens,
        input_skip=True,
    )


def first_network(start: Start, wanted: DenoiserConfig, *, by_class: bool) -> Denoiser:
    """Return the network at its beginning: new, or grown from the model begun from.

    What reads the condition starts afresh where that model's conditions are others: words or classes, another encoder's
    or of other names.
    """
    fresh = Denoiser(wanted)
    if start.model is None or start.resumed or start.config is None:
        return fresh
    grown = expand(load_model(begun_from(start.model, start.small is not None)).denoiser, wanted)
    if bool(start.config.classes) != by_class or not start.understood:
        new = fresh.state_dict()
        grown.load_state_dict({**grown.state_dict(), **{name: new[name] for name in CONDITION_LAYERS if name in new}})
    return grown


def _grown_patch(old: int, size: int) -> int:
    """Return the stem's patch for larger pictures: the one usual for them where the old patch can grow into it."""
    usual = default_patch(size)
    return usual if usual % old == 0 else old


def schedule_from(start: Start, settings: TrainConfig, wanted: DenoiserConfig) -> AnySchedule:
    """Return the noise schedule of a training: what the settings name, or that of the model resumed or begun from.

    A network that is to grow from a smaller patch averages over ``k x k`` of the new pixels, and thereby over their
    noise. The cosine schedule is shifted so that what it sees at each time is as noisy as before; without that, it
    learns anew what it knew.
    """
    if start.config is None:
        return noise_schedule(settings)
    schedule, k = start.config.schedule, wanted.patch / start.config.denoiser.patch
    if k > 1 and isinstance(schedule, CosineSchedule):
        return replace(schedule, shift=schedule.shift - 2 * math.log(k))
    return schedule


def noise_schedule(settings: TrainConfig) -> AnySchedule:
    """Return the noise schedule that the settings name."""
    if settings.schedule == "linear":
        return LinearSchedule(settings.schedule_steps, zero_terminal_snr=settings.zero_terminal_snr)
    return SCHEDULE_KINDS[settings.schedule]()


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise where a prompt for the contact sheets is empty."""
    if any(not prompt.strip() for prompt in prompts):
        raise CaptionlessError("an empty --sample-prompt paints nothing. Say what the contact sheets should show.")


def in_recorded_order(out: Path, pictures: TrainingImages, folder: Path) -> TrainingImages:
    """Put the pictures into the order the training was begun with, whatever they are called now.

    Raises:
        CaptionlessError: pictures came or went since, or their vectors or labels are others.
    """
    recorded = [digest for _, digest, role in read_image_list(out) if role == TRAIN]
    now = {digest: i for i, digest in enumerate(pictures.train.digests)}
    gone, new = set(recorded) - set(now), set(now) - set(recorded)
    if gone or new:
        raise CaptionlessError(
            f"{folder} has changed since {out} was begun ({len(gone):,} pictures gone, {len(new):,} new), so it "
            f"cannot be resumed exactly. Restore the folder, or begin anew from it: --from {out} --out ANOTHER."
        )
    order = [now[digest] for digest in recorded]
    if order != sorted(order):
        pictures = replace(pictures, train=pictures.train.reordered(order))
    if pictures.classes:
        check_labels(out, pictures, read_labels(out))
        return pictures
    if (base_folder(out)).is_dir():  # the bank is that model's, of its own pictures
        return pictures
    bank = read_tensors(out / BANK)["vectors"].float()
    if len(bank) == len(order) and not torch.allclose(bank, pictures.train.vectors, atol=2e-3):
        raise CaptionlessError(
            f"the pictures' vectors are not those that {out} was begun with. Give the same --vectors as then."
        )
    return pictures


def _check_out(folder: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise CaptionlessError(f"--out {out} is a file. Choose a folder.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise CaptionlessError(
            f"--out {out} lies inside {folder}: its contact sheets would be taken for pictures. "
            "Choose a folder outside."
        )
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not os.access(nearest, os.W_OK):
        raise CaptionlessError(f"--out {out} cannot be written: no permission in {nearest}. Choose another folder.")


def _inherited(old: ModelConfig, usual: TrainOptions, given: TrainOptions) -> TrainConfig:
    grey = old.denoiser.channels == 1
    if given.get("grey", grey) != grey:
        raise CaptionlessError(
            "--grey contradicts the model begun from, which paints in colour. Leave it out, or train without --from."
        )
    recorded = settings_from_dict(old.training.settings)
    inherited: dict[str, Any] = {"size": old.size, "width": old.denoiser.width, "grey": grey}
    inherited |= {"tokens": old.denoiser.tokens, "mask": recorded.mask}
    chosen: dict[str, Any] = {**given}
    if not old.classes:
        inherited["condition_cosine"] = recorded.condition_cosine
    for name in BOUND:
        value = getattr(recorded, name)
        if chosen.get(name, value) != value:
            raise CaptionlessError(
                f"`{name}={chosen[name]}` contradicts the model it starts from, trained with {value}. "
                "Leave it out, or train without `start_from`."
            )
        inherited[name] = value
    return TrainConfig(**{**usual, **inherited, **chosen})
