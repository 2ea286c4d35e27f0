"""Validate a model while it learns: its distance to held-out images, and whether it memorises; keep the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.config import CONFIG, ModelConfig, load_config
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
from captionless.files import atomic_write
from captionless.generation.sample import Stage, sample, to_images
from captionless.models.unet import Denoiser
from captionless.progress import Progress
from captionless.training.checkpointer import Checkpointer
from captionless.training.dataset import Dataset
from captionless.training.loop import Callback
from captionless.training.state import TrainState
from captionless.training.tracking import Tracking

BEST = "best"
"""The folder, inside the model's, of the best model so far."""
RECORD = "evaluations.jsonl"
IMAGES, COPIES, COMPARED, STEPS = 100, 60, 5_000, 10
"""Held-out conditions and training conditions to sample, training images to compare with, sampling steps."""


@dataclass(frozen=True)
class ValidationResult:
    """The figures of one validation.

    Args:
        images: training images seen until then.
        kid: kernel distance times 1000, between images sampled from held-out images' conditions and those images.
        memorised: share of the images sampled from training images' own conditions that repeat a training image.
        real: share of the held-out images that appear to repeat a training image.
    """

    images: int
    kid: Estimate
    memorised: Estimate
    real: Estimate

    @property
    def memorises(self) -> bool | None:
        """Whether more images are copies than chance explains; None if too few are held out to tell."""
        return memorises([self.memorised], self.real, sound=True)

    def better_than(self, other: ValidationResult | None) -> bool:
        """Return whether this is the better model to keep: one that does not memorise, else the one of lower KID."""
        if other is None:
            return True
        copies, other_copies = self.memorises is True, other.memorises is True
        if copies != other_copies:
            return other_copies
        return self.kid.value < other.kid.value

    def describe(self) -> str:
        """Return a remark about the figures."""
        kid, copies, real = self.kid, self.memorised, self.real
        text = f"At {self.images:,} images: KID x 1000 {kid.value:.0f} ({kid.low:.0f} to {kid.high:.0f}); "
        text += f"copies of training images {copies.value:.0%} (among held-out images {real.value:.0%})."
        if self.memorises:
            text += " The model has begun to memorise: use more images, `dropout=0.1` or a shorter training run."
        elif self.memorises is None:
            text += f" Memorisation is inconclusive: that takes {ENOUGH_HELD_OUT} held-out images, not {real.n}."
        return text


class Validator:
    """Compute the validation figures repeatedly, always for the same held-out images and with the same noise.

    Args:
        config: the model's config.
        base: the stages that sample before it: the base model of a super-resolution stage.
        dataset: the run's training and held-out images.
        flip: whether the run flips images horizontally.

    Raises:
        CaptionlessError: too few images are held out.
    """

    def __init__(self, config: ModelConfig, base: Sequence[Stage], dataset: Dataset, flip: bool = True) -> None:
        check_held_out(dataset)
        aside, train = dataset.held_out, dataset.train
        self.config, self.base = config, base
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
        """Sample with the weights as they are now, and compare."""
        device = next(denoiser.parameters()).device
        config = SamplingConfig(steps=STEPS, precision="float32")
        conditions = torch.cat([self.conditions, self.own]).to(device)
        sampled = sample([*self.base, Stage(denoiser, self.config)], conditions, range(len(conditions)), config)
        new, repeated = sampled[: len(self.conditions)], sampled[len(self.conditions) :]
        kid = paired_kid(self.real, self._features(new))
        return ValidationResult(images, kid, self._copies(repeated), self.real_share)

    def _features(self, pixels: Tensor) -> Tensor:
        return self.features.encode_images(to_images(pixels))

    def _copies(self, pixels: Tensor) -> Estimate:
        copies = memorised(nearest(pixels.flatten(1), self.known.flatten(1), self.mirrored))
        return share(int(copies.sum()), len(copies))


class Validation(Callback):
    """Validate at regular numbers of images seen and at the end; record it, and keep the best model in ``best/``.

    Args:
        every: images between two validations.
        validator: computes the figures.
        checkpointer: saves the best model.
        tracking: logs the figures.
        progress: receives remarks.
    """

    def __init__(
        self, every: int, validator: Validator, checkpointer: Checkpointer, tracking: Tracking, progress: Progress
    ) -> None:
        self.every, self.validator, self.checkpointer = every, validator, checkpointer
        self.tracking, self.progress, self.out = tracking, progress, checkpointer.out
        self.results: list[ValidationResult] = []
        self.done = 0

    def on_start(self, state: TrainState) -> None:
        """Read the record; forget what came after the checkpoint resumed from, unless ``best`` has that model."""
        best = self.out / BEST
        kept = load_config(best).training.images_seen if (best / CONFIG).is_file() else None
        self.results = [r for r in read_validations(self.out) if r.images <= state.images_seen or r.images == kept]
        self.done = state.images_seen // self.every

    def on_step(self, state: TrainState) -> None:
        """Validate if it is time to, or the training is finished; save the model if it is the best so far."""
        due = state.images_seen // self.every > self.done
        self.done = state.images_seen // self.every
        if not (due or state.finished) or any(r.images == state.images_seen for r in self.results):
            return
        result = self.validator.validate(state.average, state.images_seen)
        better = result.better_than(self.best)
        if better:
            self.checkpointer.save_model(self.out / BEST, state)
        self.results = sorted([*self.results, result], key=lambda r: r.images)
        _write_validations(self.out, self.results)
        self.tracking.log({"kid": result.kid.value, "memorised": result.memorised.value}, state)
        self.progress.say(result.describe() + (f" The best so far: {self.out / BEST}" if better else ""))

    @property
    def best(self) -> ValidationResult | None:
        """The result of the best model so far."""
        best = None
        for result in self.results:
            best = result if result.better_than(best) else best
        return best


def check_held_out(dataset: Dataset) -> None:
    """Raise unless enough images are held out to validate; the message names a share that would do."""
    aside, total = len(dataset.held_out.names), len(dataset.held_out.names) + len(dataset.train.names)
    if aside >= MINIMUM:
        return
    hint = "Add images"
    if total >= 3 * MINIMUM:
        hint = f"Try `hold_out={max(0.1, min(0.5, 1.5 * MINIMUM / total)):.2g}`"
    raise CaptionlessError(
        f"`evaluate_every` needs at least {MINIMUM} held-out images, and there are {aside}. {hint}, or leave it out."
    )


def warn_of_seen(model: str | Path | None, role: str, dataset: Dataset, progress: Progress) -> None:
    """Report how many held-out images were already in the training data of another model used by this run (``role``).

    Args:
        model: name of the other model; None if the run uses no other model.
        role: how the run uses that model, for the remark.
        dataset: the images of this run.
        progress: receives the remark.
    """
    known = seen_digests(model)[0] & set(dataset.held_out.digests) if model else set()
    if known:
        progress.say(
            f"{len(known):,} of the {len(dataset.held_out.names):,} held-out images are among the training images of "
            f"{model}, {role}: validation results will be too optimistic."
        )


def read_validations(out: Path) -> list[ValidationResult]:
    """Read the record in a model folder; an empty list if there is none.

    Raises:
        CaptionlessError: the record is damaged.
    """
    path = out / RECORD
    if not path.is_file():
        return []
    try:
        return [_result(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError, KeyError) as error:
        raise CaptionlessError(f"{path} is damaged ({error}). Remove it to start a new record.") from error


def _write_validations(out: Path, results: list[ValidationResult]) -> None:
    """Write the record, one JSON line per validation."""
    with atomic_write(out / RECORD) as path:
        path.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results), encoding="utf-8")


def _result(values: dict[str, dict[str, float]]) -> ValidationResult:
    def estimate(name: str) -> Estimate:
        found = values[name]
        return Estimate(float(found["value"]), float(found["low"]), float(found["high"]), int(found["n"]))

    images = values["images"]
    if not isinstance(images, int):
        raise TypeError(f"images must be a whole number, not {images!r}")
    return ValidationResult(images, estimate("kid"), estimate("memorised"), estimate("real"))


def _choice(n: int, most: int) -> Tensor:
    """Return up to ``most`` of the numbers below ``n``, always the same ones."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most]
