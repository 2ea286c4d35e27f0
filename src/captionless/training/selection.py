"""Looks at a model now and then while it learns, keeps the best of what it saw, and tells of memorisation early."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from captionless.checkpoints.config import CONFIG, load_config
from captionless.errors import CaptionlessError
from captionless.evaluation.lineage import seen_digests
from captionless.evaluation.metrics import ENOUGH_HELD_OUT, Estimate
from captionless.files import atomic_write
from captionless.training.dataset import TrainingImages
from captionless.training.loop import Training
from captionless.training.validation import ValidationResult, Validator

BEST = "best"
"""The folder, inside the model's, of the best model seen."""
RECORD = "evaluations.jsonl"


class Selection:
    """What ``--evaluate-every`` does.

    Args:
        out: the model folder.
        every: pictures between two looks.
        watch: looks.
        save: writes a model folder with the weights as they are now.
        say: is told what was seen.
        images: pictures seen when this run begins; what was recorded later was never a checkpoint, and is forgotten,
            but for what ``best`` still holds.
    """

    def __init__(
        self,
        out: Path,
        every: int,
        watch: Validator,
        save: Callable[[Path, Training], None],
        say: Callable[[str], None],
        images: int,
    ) -> None:
        self.out, self.every, self.watch, self.save, self.say = out, every, watch, save, say
        kept = load_config(out / BEST).training.images_seen if (out / BEST / CONFIG).is_file() else None
        self.glances = [glance for glance in read_validations(out) if glance.images <= images or glance.images == kept]
        self.done = images // every

    @property
    def best(self) -> ValidationResult | None:
        """The best so far."""
        best = None
        for glance in self.glances:
            best = glance if glance.better_than(best) else best
        return best

    def after_step(self, training: Training, finished: bool) -> None:
        """Look if it is time to, or if the training is over; record it; keep the model if it is the best yet."""
        images = training.counter.images
        due = images // self.every > self.done
        self.done = images // self.every
        if not (due or finished) or any(glance.images == images for glance in self.glances):
            return
        glance = self.watch.look(training.average, images)
        better = glance.better_than(self.best)
        if better:
            self.save(self.out / BEST, training)
        self.glances = sorted([*self.glances, glance], key=lambda one: one.images)
        write_validations(self.out, self.glances)
        self.say(describe(glance) + (f" The best so far: {self.out / BEST}" if better else ""))


def tell_known(
    model: str | Path | None,
    pictures: TrainingImages,
    say: Callable[[str], None],
    part: str = "which this training begins from",
) -> None:
    """Say how many of the held-out pictures a model that takes part in the training has seen already, if any."""
    known = seen_digests(model)[0] & set(pictures.held_out.digests) if model else set()
    if known:
        say(
            f"{len(known):,} of the {len(pictures.held_out.names):,} held-out pictures were trained on by {model}, "
            f"{part}: likeness to them flatters."
        )


def describe(glance: ValidationResult) -> str:
    """Return a sentence about what was seen."""
    kid, copies, real = glance.kid, glance.memorised, glance.real
    text = f"At {glance.images:,} pictures: KID x 1000 {kid.value:.0f} ({kid.low:.0f} to {kid.high:.0f})"
    text += f", memorised {copies.value:.0%} of what was trained on (of held-out pictures {real.value:.0%})."
    if glance.memorises:
        text += " It has begun to memorise: more pictures, --dropout 0.1 or a shorter training would help."
    elif glance.memorises is None:
        text += f" Neither caught nor cleared: it takes {ENOUGH_HELD_OUT} held-out pictures to say what is usual, and "
        text += f"{real.n} were looked at."
    return text


def read_validations(out: Path) -> list[ValidationResult]:
    """Read what was recorded in a model folder; nothing where there is no record.

    Raises:
        CaptionlessError: the record is damaged.
    """
    path = out / RECORD
    if not path.is_file():
        return []
    try:
        return [_validation(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError, KeyError) as error:
        raise CaptionlessError(f"{path} is damaged ({error}). Remove it; the record then begins anew.") from error


def write_validations(out: Path, glances: list[ValidationResult]) -> None:
    """Write the record, one JSON line a look."""
    with atomic_write(out / RECORD) as path:
        path.write_text("".join(json.dumps(asdict(glance)) + "\n" for glance in glances), encoding="utf-8")


def _validation(values: dict[str, dict[str, float]]) -> ValidationResult:
    def estimate(name: str) -> Estimate:
        found = values[name]
        return Estimate(float(found["value"]), float(found["low"]), float(found["high"]), int(found["n"]))

    images = values["images"]
    if not isinstance(images, int):
        raise TypeError(f"images must be a whole number, not {images!r}")
    return ValidationResult(images, estimate("kid"), estimate("memorised"), estimate("real"))
