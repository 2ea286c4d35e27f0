"""Looking at a model while it learns: what is kept as the best, what is recorded, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import encoder_factory
import tiny
from captionless.checkpoints.image_list import read_image_list
from captionless.checkpoints.model import load_model
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.errors import CaptionlessError
from captionless.evaluation.metrics import Estimate, share
from captionless.training.dataset import Dataset, Examples
from captionless.training.run import train
from captionless.training.state import TrainState, begin_state
from captionless.training.validation import Validation, ValidationResult, Validator, read_validations
from training_cases import Remembers


def result(images: int, kid: float, copies: int = 0) -> ValidationResult:
    return ValidationResult(images, Estimate(kid, kid - 1, kid + 1, 100), share(copies, 100), share(0, 100))


class FakeValidator:
    """Finds what it was given."""

    def __init__(self, *seen: ValidationResult) -> None:
        self.seen = {one.images: one for one in seen}

    def validate(self, _: Any, images: int) -> ValidationResult:
        return self.seen[images]


class FakeCheckpointer:
    """Remembers when the best model was saved."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.kept: list[int] = []

    def save_model(self, folder: Path, state: TrainState) -> None:
        assert folder == self.out / "best"
        self.kept.append(state.images_seen)


def run(
    out: Path, seen: list[ValidationResult], every: int = 10, start: int = 0, finished: int = 10**9
) -> tuple[list[int], list[str]]:
    """Train while there are results, 5 images per step; return when models were kept, and what was said."""
    checkpointer, progress = FakeCheckpointer(out), Remembers()
    validator, tracking = FakeValidator(*seen), SimpleNamespace(log=lambda *_: None)
    validation = Validation(every, validator, checkpointer, tracking, progress)  # type: ignore[arg-type]
    config = TrainConfig(size=8, width=16, images=finished)
    state = begin_state(tiny.denoiser().requires_grad_(True), config, CosineSchedule())
    state.images_seen = start
    validation.on_start(state)
    for images in [*range(start + 5, max(validator.seen), 5), max(validator.seen)]:
        state.images_seen = images
        validation.on_step(state)
        validation.on_step(state)  # a second call at the same place does nothing
    return checkpointer.kept, progress.said


def test_the_best_likeness_is_kept(tmp_path: Path) -> None:
    seen = [result(10, 80), result(20, 60), result(30, 70), result(40, 50)]
    kept, said = run(tmp_path, seen)
    assert kept == [10, 20, 40]
    assert read_validations(tmp_path) == seen
    assert ["best" in text for text in said] == [True, True, False, True]


def test_a_model_that_memorises_is_never_better_than_one_that_does_not(tmp_path: Path) -> None:
    kept, said = run(tmp_path, [result(10, 80), result(20, 10, copies=50), result(30, 79)])
    assert kept == [10, 30]
    assert [i for i, text in enumerate(said) if "begun to memorise" in text] == [1]


def test_among_models_that_all_memorise_likeness_decides(tmp_path: Path) -> None:
    assert run(tmp_path, [result(10, 80, 50), result(20, 70, 60), result(30, 75, 40)])[0] == [10, 20]


def test_a_few_copies_among_many_are_chance() -> None:
    real = share(2, 100)
    assert replace(result(1, 0), memorised=share(4, 100), real=real).memorises is False
    assert replace(result(1, 0), memorised=share(14, 100), real=real).memorises is True


def test_beside_a_few_held_out_images_copies_are_not_excused_and_nobody_is_acquitted() -> None:
    few = replace(result(1, 60), real=share(0, 20))
    some, none = replace(few, memorised=share(8, 60)), replace(few, memorised=share(1, 60))
    assert (some.memorises, none.memorises) == (True, None)
    assert "begun to memorise" in some.describe()
    assert none.describe().endswith("Memorisation is inconclusive with 20 held-out images; a verdict needs 40.")
    assert none.rank < replace(some, kid=result(1, 10).kid).rank
    assert "inconclusive" not in result(1, 60).describe()


def test_a_resumed_training_remembers_the_best_and_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, [result(10, 50), result(20, 40), result(30, 10)])
    kept, _ = run(tmp_path, [result(30, 45), result(40, 39)], start=20)
    assert kept == [40]
    assert [one.kid.value for one in read_validations(tmp_path)] == [50, 40, 45, 39]


def test_a_validation_that_was_lost_after_the_checkpoint_is_made_when_resumed(tmp_path: Path) -> None:
    run(tmp_path, [result(10, 50)])
    kept, _ = run(tmp_path, [result(20, 40), result(30, 45)], start=20)
    assert kept == [20]
    assert [one.images for one in read_validations(tmp_path)] == [10, 20, 30]


def test_the_end_is_validated_once_wherever_it_falls(tmp_path: Path) -> None:
    assert run(tmp_path, [result(7, 50)], finished=7)[0] == [7]


def test_what_is_told_names_the_figures() -> None:
    text = replace(result(20_000, 43.21, 30), real=share(1, 100)).describe()
    assert text.startswith("At 20,000 images: KID x 1000 43 (42 to 44); copies of training images 30% (among")
    assert "1%" in text
    assert "begun to memorise" in text


@pytest.mark.parametrize("line", ["{", '{"images": 1}', '{"images": "x", "kid": {}}', "[]"])
def test_a_damaged_record_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "evaluations.jsonl").write_text(line + "\n")
    with pytest.raises(CaptionlessError, match=r"evaluations\.jsonl is damaged\. Remove it"):
        read_validations(tmp_path)


# --- the validator ---


def dataset(train_pixels: torch.Tensor, held_out: torch.Tensor) -> Dataset:
    def part(pixels: torch.Tensor, seed: int) -> Examples:
        names = tuple(f"{seed}-{i}.png" for i in range(len(pixels)))
        return Examples(pixels, tiny.unit_vectors(len(pixels), seed=seed), names, names)

    encoder: Any = tiny.FakeEncoder()
    return Dataset(part(train_pixels, 1), part(held_out, 2), encoder)


def noise(n: int, seed: int) -> torch.Tensor:
    return (tiny.uniform(n, 3, 8, 8, seed=seed) * 256).to(torch.uint8)


def test_a_model_that_paints_training_images_is_seen_to_memorise(monkeypatch: pytest.MonkeyPatch) -> None:
    known = noise(40, 1)
    validator = Validator(tiny.model().config, (), dataset(known, noise(30, 2)))
    monkeypatch.setattr(
        "captionless.training.validation.sample", lambda *_, **__: torch.cat([known[:30], known.flip(3)])
    )
    seen = validator.validate(tiny.denoiser(), 640)
    assert (seen.memorised.value, seen.real.value, seen.memorises, seen.images) == (1.0, 0.0, True, 640)
    monkeypatch.setattr("captionless.training.validation.sample", lambda *_, **__: noise(70, 3))
    assert not validator.validate(tiny.denoiser(), 640).memorises


def test_looking_changes_nothing_and_sees_the_same_again() -> None:
    validator = Validator(tiny.model().config, (), dataset(noise(40, 1), noise(30, 2)))
    network = tiny.denoiser()
    before = torch.get_rng_state()
    first = validator.validate(network, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert validator.validate(network, 1) == first
    assert (first.kid.n, first.memorised.n) == (30, 40)


# --- through the verb ---

TINY: dict[str, Any] = {"size": 8, "width": 16, "batch": 8, "images": 32, "precision": "float32", "sample_grids": 0}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_factory.small_pair(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    for i, pixels in enumerate(noise(60, 4)):
        path = folder / ("rose" if i % 2 else "daisy") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return folder


def test_training_keeps_the_best_model_as_a_model_of_its_own(photos: Path, encoder: Path, tmp_path: Path) -> None:
    progress = Remembers()
    out = train(
        photos, tmp_path / "m", encoder=str(encoder), hold_out=0.5, evaluate_every=16, progress=progress, **TINY
    )
    results = read_validations(out)
    assert [one.images for one in results] == [16, 32]
    best = min(results, key=lambda one: one.kid.value)
    assert load_model(out / "best").config.training.images_seen == best.images
    assert len([text for text in progress.said if text.startswith("At ")]) == 2
    assert json.loads((out / "evaluations.jsonl").read_text().splitlines()[0])["images"] == 16


@pytest.mark.slow
def test_a_model_that_learns_five_images_by_heart_is_caught_and_an_earlier_one_kept(
    encoder: Path, tmp_path: Path
) -> None:
    """In earnest: nothing is pretended between the training and the record."""
    for i, pixels in enumerate(noise(26, 4)):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "photos" / f"{i}.png")
    options = {**TINY, "batch": 16, "images": 1600, "learning_rate": 0.01, "ema_half_life": 300}
    options |= {"flip": False, "condition_cosine": 1.0, "hold_out": 0.8, "evaluate_every": 320}
    progress = Remembers()
    out = train(tmp_path / "photos", tmp_path / "m", encoder=str(encoder), progress=progress, **options)
    results = read_validations(out)
    early, late = results[0], results[-1]
    assert (late.images, late.memorised.n, late.real.value, late.memorises) == (1600, 5, 0.0, True)
    assert (early.images, early.memorises) == (320, None)
    kept = load_model(out / "best").config.training.images_seen
    assert kept in [one.images for one in results if not one.memorises]
    assert late.memorised.value >= 0.6
    (told,) = [text for text in progress.said if text.startswith("At 1,600 images")]
    assert "The model has begun to memorise" in told


@pytest.mark.slow
def test_looking_on_the_way_does_not_change_what_is_learned(photos: Path, encoder: Path, tmp_path: Path) -> None:
    plain = train(photos, tmp_path / "a", encoder=str(encoder), hold_out=0.5, **TINY)
    watched = train(photos, tmp_path / "b", encoder=str(encoder), hold_out=0.5, evaluate_every=8, **TINY)
    one, other = load_model(plain).denoiser.state_dict(), load_model(watched).denoiser.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_held_out_images_that_the_model_begun_from_has_seen_are_told_of(
    photos: Path, encoder: Path, tmp_path: Path
) -> None:
    first = train(photos, tmp_path / "a", encoder=str(encoder), **TINY)
    progress = Remembers()
    options: dict[str, Any] = {"hold_out": 0.5, "evaluate_every": 32, "progress": progress}
    second = train(photos, tmp_path / "b", start_from=first, **options, **TINY)
    aside = sum(row[2] == "held out" for row in read_image_list(second))
    warning = f"{aside} of the {aside} held-out images are among the training images of {first}"
    assert any(warning in text for text in progress.said)


@pytest.mark.slow
def test_a_model_of_classes_is_looked_at_too(photos: Path, tmp_path: Path) -> None:
    out = train(photos, tmp_path / "m", classes=True, hold_out=0.5, evaluate_every=32, **TINY)
    assert [one.images for one in read_validations(out)] == [32]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"evaluate_every": 0, "hold_out": 0.5}, "of at least 1 and at most 1,000,000,000,000, not 0"),
        ({"evaluate_every": 100}, r"needs held-out images.*`hold_out=0\.1`"),
        ({"evaluate_every": 100, "hold_out": 0.05}, r"needs at least 20 held-out images.*larger `hold_out`"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    given: dict[str, Any], said: str, photos: Path, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CaptionlessError, match=said):
        train(photos, tmp_path / "m", encoder=str(encoder), **given, **TINY)
