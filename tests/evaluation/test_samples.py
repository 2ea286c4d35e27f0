"""The images of an evaluation are kept, so that an interrupted one continues with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from captionless.config.evaluation import QUICK, EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.data.cache import SAMPLES
from captionless.evaluation import samples
from captionless.evaluation.context import EvaluationContext
from captionless.evaluation.run import evaluate
from captionless.evaluation.samples import sample_kept
from captionless.generation.generator import Generator
from captionless.generation.sample import sample, sample_batches
from evaluation_cases import FAST, Remembers, make_fast, sample_photos, small_config, write_model

SEEDS = [5, 6, 7, 8, 9]
CONDITIONS = tiny.unit_vectors(5)
TWO_A_BATCH = FAST.replace(batch=2)


class Interrupted:
    """Samples batches and counts their images; after so many batches, Ctrl-C is pressed."""

    def __init__(self, batches: int = 10**6) -> None:
        self.batches, self.sampled = batches, 0

    def __call__(self, *given: Any) -> Iterator[torch.Tensor]:
        for number, pixels in enumerate(sample_batches(*given)):
            if number == self.batches:
                raise KeyboardInterrupt
            self.sampled += len(pixels)
            yield pixels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def sampled_anew(monkeypatch: pytest.MonkeyPatch, generator: Generator, **changes: Any) -> int:
    """Return how many images had to be sampled."""
    counter = Interrupted()
    monkeypatch.setattr(samples, "sample_batches", counter)
    given = {"conditions": CONDITIONS, "seeds": SEEDS, "sampling": TWO_A_BATCH, "progress": Remembers(), **changes}
    sample_kept(generator, **given)
    return counter.sampled


@pytest.mark.usefixtures("cache")
def test_after_an_interruption_only_the_lacking_images_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, progress = Generator(tiny.model()), Remembers()
    monkeypatch.setattr(samples, "sample_batches", Interrupted(1))
    with pytest.raises(KeyboardInterrupt):
        sample_kept(generator, CONDITIONS, SEEDS, TWO_A_BATCH, progress)
    assert not progress.said
    rest = Interrupted()
    monkeypatch.setattr(samples, "sample_batches", rest)
    found = sample_kept(generator, CONDITIONS, SEEDS, TWO_A_BATCH, progress)
    assert rest.sampled == 3
    assert progress.said == ["2 of 5 images are those of an earlier evaluation with the same settings."]
    assert torch.equal(found, sample(generator.stages, CONDITIONS, SEEDS, TWO_A_BATCH))
    assert sampled_anew(monkeypatch, generator, sampling=FAST.replace(batch=5)) == 0


@pytest.mark.usefixtures("cache")
def test_another_model_setting_seed_or_condition_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(tiny.model())
    assert sampled_anew(monkeypatch, generator) == 5
    assert sampled_anew(monkeypatch, Generator(tiny.model(seed=1))) == 5
    assert sampled_anew(monkeypatch, generator, sampling=TWO_A_BATCH.replace(guidance=1)) == 5
    assert sampled_anew(monkeypatch, generator, seeds=[0, 1, 2, 3, 9]) == 4
    assert sampled_anew(monkeypatch, generator, conditions=CONDITIONS.flip(0)) == 4  # the middle one stays


def test_damaged_images_are_noticed_and_sampled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(tiny.model())
    assert sampled_anew(monkeypatch, generator) == 5
    part = sorted((cache / SAMPLES).glob("*/part-*"))[0]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged, so its samples will be computed again"):
        assert sampled_anew(monkeypatch, generator) == 2


def test_an_interrupted_evaluation_says_what_happens_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fast(monkeypatch, tmp_path)
    model = write_model(tmp_path / "model", sample_photos(tmp_path / "photos", 20))
    given: dict[str, Any] = {"data": tmp_path / "photos", "out": tmp_path / "report", "sampling": FAST}
    given |= {"config": small_config(), "encoder": tiny.FakeEncoder()}
    monkeypatch.setattr(samples, "sample_batches", Interrupted(0))
    progress = Remembers()
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, progress=progress, **given)
    assert progress.said[-1] == "Stopped. The same command continues with the images that were sampled so far."
    assert not list((tmp_path / "report").iterdir())


def test_a_quick_evaluation_takes_small_samples_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fast(monkeypatch, tmp_path)
    model = write_model(tmp_path / "model", sample_photos(tmp_path / "photos", 120))
    used: list[tuple[EvaluationConfig, SamplingConfig]] = []

    def note(context: EvaluationContext, conditions: torch.Tensor, offset: int) -> torch.Tensor:
        used.append((context.config, context.sampling))
        return torch.zeros(len(conditions), 3, 8, 8, dtype=torch.uint8)

    monkeypatch.setattr(EvaluationContext, "sample_pixels", note)
    given: dict[str, Any] = {"data": tmp_path / "photos", "out": tmp_path / "report", "encoder": tiny.FakeEncoder()}
    report = evaluate(model, quick=True, samples=55, **given)
    config, sampling = used[0]
    assert (config.samples, config.training_samples, config.compared) == (55, QUICK["training_samples"], 500)
    assert (sampling.steps, sampling.size) == (10, 8)
    assert report.models[0].figures["precision"].value.n == 55
    assert "Leave `quick` out" in report.models[0].warnings[0]
