"""Plan a training run: choose what was not given from the images, the time and the speed of this machine.

A larger network draws better if it sees enough images, and worse if it does not: so the plan takes the largest one of
``LADDER`` that the time can fill. How many images that is, is measured by a rehearsal. The other settings are those
that measured best (``docs/ablations.md``, ``recipes/flowers/README.md``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from captionless.checkpoints.config import ModelConfig
from captionless.config.length import DEFAULT_MINUTES
from captionless.config.training import TrainConfig, continued
from captionless.data.summary import FolderFacts
from captionless.device import usable_cpus
from captionless.models.unet import weight_count
from captionless.training.expectation import STOP_FROM, expectation, rounded, stage_warning
from captionless.training.rehearsal import Rehearse, flops, rehearsed_shape
from captionless.training.resolve import resolve_settings
from captionless.training.start import Start

SHAPE = frozenset({"network", "width", "multipliers", "attention", "patch", "blocks"})
"""Settings of the network's shape; if one of them is given, no network is chosen."""
WARM_UP = 0.05
"""Share of the images seen over which the learning rate rises."""
STEPS = 1_500
"""Steps that a training should have at least; if it sees few images, its batches are smaller."""
LEAST_BATCH = {"adamw": 16, "muon": 32}
"""The smallest batches: a step of Muon costs as much as 16 images of the smallest network (docs/train.md)."""
CROPS_FROM, DROPOUT_FROM = 150, 500
"""Repetitions of each image from which on a fresh network gets crops and dropout (docs/train.md)."""
CROP, DROPOUT = 0.6, 0.1
PIXEL_ART = 0.5
"""Share of pixel art in a folder from which on it is trained as such. Its shapes stand out from more noise than those
of photographs, so it needs more training at high noise levels (docs/train.md)."""
HOLD_OUT, HOLD_OUT_FROM = 0.1, 100
"""Share of the images that such a run holds out to see when to stop, and number of images from which on it does."""


MANY = 1_000
"""Images that take long to encode without a GPU, as each view of 256 pixels takes 0.6 seconds (docs/latents.md)."""


@dataclass(frozen=True)
class Rung:
    """A network on the ladder.

    Args:
        images: what it should see at least.
        folder: images that the folder should have at least.
        size: side of its images in pixels, unless one is given.
        divisor: what the size must be divisible by.
        settings: its shape and learning rate.
    """

    images: int
    folder: int
    size: int
    divisor: int
    settings: Mapping[str, Any]


LADDER = (
    Rung(0, 0, 32, 4, {"width": 32, "learning_rate": 1e-3}),
    Rung(80_000, 300, 32, 4, {"width": 64}),
    Rung(600_000, 2_000, 64, 16, {"width": 64, "multipliers": (1, 2, 3, 4), "attention": (1, 2, 3), "patch": 2}),
)
"""Networks from small to large. The second drew the right kind of flower in 51% of images after 40,000 images seen, and
in 72% after 82,000; the third was still improving after a million (docs/ablations.md, recipes/flowers/README.md)."""


@dataclass(frozen=True)
class Outlook:
    """The settings of a planned run, and what it should reach.

    Args:
        given: the settings that were given, with those that the plan adds.
        images: the images that the run should see.
        per_second: images per second in the rehearsal; None without one.
        weights: number of weights of the network.
        fresh: whether the network starts from random weights and generates images by itself.
        folder: number of images in the folder.
        continues: whether the network starts from that of another model.
        encodes: whether an autoencoder encodes the images first.
        work: arithmetic of the network for one image, in floating-point operations.
        upsamples: size of the base model's images, if the network is a new super-resolution stage; else None.
        enlarged_from: shorter side of the images, if the plan has chosen a size that they do not have; else None.
        threads: CPU threads of the rehearsal; None without one.
    """

    given: dict[str, Any]
    images: int
    per_second: float | None = None
    weights: int = 0
    fresh: bool = True
    folder: int = 0
    continues: bool = False
    encodes: bool = False
    work: int = 0
    upsamples: int | None = None
    enlarged_from: int | None = None
    threads: int | None = None

    def describe(self) -> str:
        """Return the plan in one line."""
        size, batch, minutes = (self.given.get(name) for name in ("size", "batch", "minutes"))
        text = f"{size} x {size} pixels, {self.weights / 1e6:.1f} million weights, batches of {batch}, "
        text += f"about {rounded(self.images):,} images seen"
        if self.per_second:
            text += f" in {minutes or DEFAULT_MINUTES:g} minutes ({self.per_second:.3g} per second{self._threads()})"
        text += f": {expectation(self.images, self.per_second, self.weights)}." if self.fresh else "."
        if self.upsamples:
            text += stage_warning(self.images, self.given, self.upsamples)
        if self.continues:
            text += " The model to start from draws already; the more images it sees, the more it draws like yours."
        against = [
            *(["crops"] if self.given.get("crop", 1) < 1 else []),
            *(["dropout"] if self.given.get("dropout") else []),
            *([f"{self.given['hold_out']:.0%} held out"] if self.given.get("hold_out") else []),
            *(["early stopping"] if self.given.get("early_stopping") else []),
        ]
        if against:
            times = rounded(self.images / self.folder)
            text += f" Each image would be seen about {times:,} times; against memorising: {', '.join(against)}."
        if self.enlarged_from:
            text += f" Images are enlarged to {size} pixels: their shorter side has {self.enlarged_from}."
        if self.encodes:
            text += f" Before that, the autoencoder encodes the {self.folder:,} images once"
            text += ", which can take hours without a GPU." if self.folder >= MANY else "."
        return text

    def _threads(self) -> str:
        """Return a remark if the training is faster with fewer threads than it may use, or is given fewer."""
        usable = usable_cpus()
        return f" with {self.threads} of {usable} CPU threads" if self.threads and self.threads < usable else ""


def plan_run(
    start: Start, given: dict[str, Any], folder: int, rehearse: Rehearse, *, by_class: bool, facts: FolderFacts
) -> Outlook:
    """Return the plan of a run that does not resume another.

    Args:
        start: where the run starts.
        given: the settings that were given; the plan keeps them.
        folder: number of files in the folder of images.
        rehearse: measures the speed; not called if only the number of images limits the run.
        by_class: whether the run is class-conditional.
        facts: what the images are like; they are not enlarged unless a size is given.
    """
    fresh = start.config is None and start.base is None
    timed = given.get("minutes") is not None or given.get("images") is None
    planned = _recipe(start, given, facts)

    def seen(rate: float) -> int:
        by_time = round(60 * (given.get("minutes") or DEFAULT_MINUTES) * rate) if timed else given["images"]
        return min(by_time, given.get("images") or by_time)

    def settings(more: Mapping[str, Any]) -> TrainConfig:
        return resolve_settings(start, planned | dict(more) | given, by_class=by_class)

    rate, images = None, given.get("images") or 0
    if fresh and not SHAPE & given.keys():
        k = start.space.factor
        fits = [rung for rung in LADDER if given.get("size", k * rung.size) % (k * rung.divisor) == 0]
        ladder = [rung for rung in fits if rung.folder <= folder]
        most = max(16 * k, facts.shorter_side // (16 * k) * 16 * k)  # images are not enlarged beyond the least size
        shapes = [{"size": min(k * rung.size, most), **rung.settings} for rung in ladder]
        first = settings(shapes[0] | {"batch": 32})
        rate = rehearse(start, first) if timed else None
        speed = [_speed(start, settings(shape)) / _speed(start, first) * (rate or 0) for shape in shapes]
        chosen = max(i for i, rung in enumerate(ladder) if not i or seen(speed[i]) >= rung.images)
        planned |= shapes[chosen]
        images = seen(speed[chosen])
    elif timed:
        images = seen(rehearse(start, settings({"batch": 16})))
    planned["batch"] = batch_size(images, (planned | given).get("optimizer", "adamw"))
    if timed:
        rate = rehearse(start, settings({}))
        images = seen(rate)
    planned["warm_up"] = max(1, round(WARM_UP * images))
    planned |= _against_memorising(start, images, folder, facts, by_class)
    shape, side = rehearsed_shape(start, config := settings({})), facts.shorter_side
    return Outlook(
        planned | {"size": config.size} | given,
        images,
        rate,
        weight_count(shape),
        fresh,
        folder,
        continues=start.config is not None,
        encodes=start.space.factor > 1,
        work=flops(shape, config.size // start.space.factor),
        upsamples=start.base_config.size if start.base_config and not start.config else None,
        enlarged_from=None if "size" in given or planned.get("size", 0) <= side else side,
        threads=torch.get_num_threads() if timed else None,
    )


def _against_memorising(start: Start, images: int, folder: int, facts: FolderFacts, by_class: bool) -> dict[str, Any]:
    """Return the settings for a folder whose images return often; a super-resolution stage needs none."""
    more: dict[str, Any] = {}
    repetitions = images / folder
    if start.base is not None:
        return more
    cropped = start.config is None and start.space.crops and facts.pixel_art < PIXEL_ART  # crops would blur it
    if cropped and repetitions > CROPS_FROM:
        more["crop"] = CROP
    if start.config is None and repetitions > DROPOUT_FROM:
        more["dropout"] = DROPOUT
    if repetitions > STOP_FROM:
        more["early_stopping"] = True
        if folder >= HOLD_OUT_FROM and not by_class:  # of a rare class, all images might be held out
            more["hold_out"] = HOLD_OUT
    return more


def stage_images(outlook: Outlook, given: Mapping[str, Any]) -> int:
    """Return the images that a new super-resolution stage would see after a base model, whose speed is known.

    Args:
        outlook: that of the base model.
        given: the settings of the stage, with its length.
    """
    config = TrainConfig(**given)
    work = flops(rehearsed_shape(Start(base=Path()), config), config.size)
    by_time = round(60 * (config.minutes or 0) * (outlook.per_second or 0) * outlook.work / work)
    return min(by_time, config.images or by_time) if config.minutes else config.images or 0


def extended(config: ModelConfig, given: Mapping[str, Any]) -> Outlook | None:
    """Return the outlook of a resumed run that is given another length, by its speed so far; None if that is unknown.

    Args:
        config: the config of the model that the run has written.
        given: the settings that are given now.
    """
    record = config.training
    settings = continued(record.settings, given)
    rate = record.images_seen / (60 * record.minutes) if record.minutes else record.plan.get("images_per_second")
    if rate is None:
        return None
    minutes, most = settings["minutes"], settings["images"] or math.inf
    images = round(min(most, 60 * minutes * rate if minutes else most))
    begun, fresh = bool(record.initialised_from), not record.initialised_from and config.base_size is None
    folder = max(1, record.train_images + record.held_out)
    return Outlook(settings, images, rate if minutes else None, weight_count(config.denoiser), fresh, folder, begun)


def batch_size(images: int, optimizer: str = "adamw") -> int:
    """Return a batch size, a power of two from `LEAST_BATCH` to 256, that leaves ``STEPS`` steps if possible."""
    return max(LEAST_BATCH[optimizer], min(256, int(2 ** ((max(1, images // STEPS)).bit_length() - 1))))


def _recipe(start: Start, given: Mapping[str, Any], facts: FolderFacts) -> dict[str, Any]:
    """Return the settings that measured best, except for those that a run inherits or that do not fit its network."""
    recipe: dict[str, Any] = {}
    if given.get("network", "standard") == "standard":
        drawn = facts.pixel_art >= PIXEL_ART and start.base is None
        recipe["weighting"] = "uniform" if drawn else "log-normal"
        if start.config is None and start.base is None and given.get("attention") != ():
            recipe |= {"tokens": 4, "optimizer": "muon"}
    return recipe


def _speed(start: Start, config: TrainConfig) -> float:
    """Return the relative speed of a training: the inverse of its arithmetic."""
    return 1 / flops(rehearsed_shape(start, config), config.size // start.space.factor)
