"""Validate a model during training: measure its KID to held-out images and its memorisation, and keep the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.features import own_features
from captionless.encoders.hub import BUNDLED
from captionless.errors import CaptionlessError
from captionless.evaluation.lineage import seen_digests
from captionless.evaluation.metrics import (
    ENOUGH_HELD_OUT,
    MINIMUM,
    Estimate,
    memorised,
    memorises,
    nearest,
    paired_kid,
    share,
)
from captionless.generation.sample import Stage, sample, to_images
from captionless.models.unet import Denoiser
from captionless.progress import Progress
from captionless.text_files import read_lines, write_text
from captionless.training.checkpointer import Checkpointer
from captionless.training.dataset import Dataset
from captionless.training.loop import Callback
from captionless.training.start import BEST, RECORD, Start
from captionless.training.state import TrainState
from captionless.training.tracking import Tracking

IMAGES, COPIES, COMPARED, STEPS = 100, 60, 5_000, 10
"""Numbers of held-out and training conditions to sample, training images to compare with, and sampling steps."""


@dataclass(frozen=True)
class ValidationResult:
    """The metrics of one validation."""

    images: int  # images seen in training until then
    kid: Estimate  # KID x 1000 between held-out images and images sampled from their conditions
    memorised: Estimate  # share of images sampled from training conditions that are copies of a training image
    real: Estimate  # share of held-out images that appear to be copies of a training image

    @property
    def memorises(self) -> bool | None:
        """Whether the share of copies is significantly too large; None if too few images are held out to tell."""
        return memorises([self.memorised], self.real, sound=True)

    @property
    def rank(self) -> tuple[bool, float]:
        """Sort key, smaller is better: a model that does not memorise comes first, then the lower KID."""
        return self.memorises is True, self.kid.value

    def describe(self) -> str:
        """Return a summary of the metrics in one line."""
        kid, copies, real = self.kid, self.memorised, self.real
        text = f"At {self.images:,} images: KID x 1000 {kid.value:.0f} ({kid.low:.0f} to {kid.high:.0f}); "
        text += f"copies of training images {copies.value:.0%} (among held-out images {real.value:.0%})."
        if self.memorises:
            text += " The model has begun to memorise: use more images, `dropout=0.1` or a shorter training run."
        elif self.memorises is None:
            text += f" Memorisation is inconclusive with {real.n} held-out images; a verdict needs {ENOUGH_HELD_OUT}."
        return text


class Validator:
    """Compute the validation metrics, always with the same held-out images and noise.

    The stages in ``base`` (the base model of a super-resolution stage) sample before the model.
    """

    def __init__(self, config: ModelConfig, base: Sequence[Stage], dataset: Dataset, flip: bool = True) -> None:
        aside, train = dataset.held_out, dataset.train
        self.config, self.base, self.space = config, base, dataset.space
        self.features = own_features(dataset.encoder or load_encoder(BUNDLED))
        chosen = _choice(len(aside.names), IMAGES)
        self.conditions, held_out = aside.conditions[chosen], aside.pixels[chosen]
        compared = _choice(len(train.names), COMPARED)
        self.known = train.pixels[compared]
        self.mirrored = self.known.flip(3).flatten(1) if flip else None
        self.own = train.conditions[compared[_choice(len(compared), COPIES)]]
        self.real = self._features(held_out)
        self.real_share = self._copies(held_out)

    def validate(self, denoiser: Denoiser, images: int) -> ValidationResult:
        """Sample with the current weights and compute the metrics."""
        device = next(denoiser.parameters()).device
        config = SamplingConfig(steps=STEPS, precision="float32")
        conditions = torch.cat([self.conditions, self.own]).to(device)
        sampled = sample(
            [*self.base, Stage(denoiser, self.config, self.space)], conditions, range(len(conditions)), config
        )
        new, repeated = sampled[: len(self.conditions)], sampled[len(self.conditions) :]
        kid = paired_kid(self.real, self._features(new))
        return ValidationResult(images, kid, self._copies(repeated), self.real_share)

    def _features(self, pixels: Tensor) -> Tensor:
        return self.features.encode_images(to_images(pixels))

    def _copies(self, pixels: Tensor) -> Estimate:
        copies = memorised(nearest(pixels.flatten(1), self.known.flatten(1), self.mirrored))
        return share(int(copies.sum()), len(copies))


class Validation(Callback):
    """Validate every ``every`` images and at the end, record the results, and keep the best model in ``best/``."""

    def __init__(
        self, every: int, validator: Validator, checkpointer: Checkpointer, tracking: Tracking, progress: Progress
    ) -> None:
        self.every, self.validator, self.checkpointer = every, validator, checkpointer
        self.tracking, self.progress, self.out = tracking, progress, checkpointer.out
        self.results: list[ValidationResult] = []
        self.done = 0

    def on_start(self, state: TrainState) -> None:
        """Read earlier results, without those after the resumed checkpoint, which will be computed again.

        A validation that was due at the checkpoint, and was lost because the run was interrupted, is made now.
        """
        self.results = [one for one in read_validations(self.out) if one.images <= state.images_seen]
        self.done = max((one.images // self.every for one in self.results), default=0)
        if state.images_seen:
            self.on_step(state)

    def on_step(self, state: TrainState) -> None:
        """Validate if due or if training is finished, and save the model if it is the best so far."""
        due = state.images_seen // self.every > self.done
        self.done = state.images_seen // self.every
        if not (due or state.finished) or any(one.images == state.images_seen for one in self.results):
            return
        result = self.validator.validate(state.average, state.images_seen)
        self.results.append(result)
        best = min(self.results, key=lambda one: one.rank) is result
        if best:
            self.checkpointer.save_model(self.out / BEST, state)
        write_text(self.out / RECORD, "".join(json.dumps(asdict(one)) + "\n" for one in self.results))
        self.tracking.log({"kid": result.kid.value, "memorised": result.memorised.value}, state)
        self.progress.say(result.describe() + (f" The best so far: {self.out / BEST}" if best else ""))


def read_validations(out: Path) -> list[ValidationResult]:
    """Read the recorded results in a model folder; return an empty list if there are none.

    Raises:
        CaptionlessError: the file is damaged.
    """
    path = out / RECORD
    if not path.is_file():
        return []
    try:
        result = TypeAdapter(ValidationResult)
        return [result.validate_json(line) for line in read_lines(path)]
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no such line
        raise CaptionlessError(f"{path} is damaged. Remove it to start a new record.", code="damaged_file") from error


def check_validation_images(dataset: Dataset) -> None:
    """Raise unless enough images are held out for validation."""
    aside = len(dataset.held_out.names)
    if aside < MINIMUM:
        raise CaptionlessError(
            f"`evaluate_every` needs at least {MINIMUM} held-out images, but there are only {aside} (and "
            f"{len(dataset.train.names)} training images). Choose a larger `hold_out`, add images, or leave "
            "`evaluate_every` out.",
            parameter="hold_out",
            code="not_enough_images",
        )


def warn_of_seen_images(start: Start, dataset: Dataset, progress: Progress) -> None:
    """Report how many held-out images were training images of a model that this run starts from or upsamples."""
    for model, role in ((start.initialised_from, "from which this run starts"), (start.base, "the base model")):
        known = seen_digests(model)[0] & set(dataset.held_out.digests) if model else ()
        if known:
            progress.say(
                f"{len(known):,} of the {len(dataset.held_out.names):,} held-out images are among the training images "
                f"of {model}, {role}. Validation results will be too optimistic."
            )


def _choice(n: int, most: int) -> Tensor:
    """Return at most ``most`` random indices below ``n``, always the same ones."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most]
