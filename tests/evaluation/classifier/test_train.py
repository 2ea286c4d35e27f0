"""The contract of captionless.evaluation.classifier: an independent classifier of pixels."""

import hashlib
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captionless.config.evaluation import ClassifierConfig
from captionless.errors import CaptionlessError
from captionless.evaluation.classifier import (
    PixelClassifier,
    accuracy,
    confusion,
    held_out_split,
    train_classifier,
)
from captionless.evaluation.classifier.muon import Muon
from captionless.evaluation.classifier.network import augment, whitening
from captionless.evaluation.classifier.train import step_count
from captionless.evaluation.metrics import TooFewError, share
from captionless.progress import Silent
from tiny import random, uniform


def halves(n: int, *, side: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy grey images that are brighter on the left (class 0) or on the right (class 1)."""
    labels = torch.arange(n) % 2
    bright = torch.where(torch.arange(side) < side // 2, 1 - labels[:, None], labels[:, None])
    values = 60 + 100 * bright[:, None, None, :] + 30 * random(n, 1, side, side, seed=seed)
    return values.clamp(0, 255).byte(), labels


def bands(n: int, *, side: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The same, brighter at the top or at the bottom: no mirror image changes its class."""
    pixels, labels = halves(n, side=side, seed=seed)
    return pixels.transpose(2, 3).contiguous(), labels


SHORT = ClassifierConfig(images_seen=(640, 640), batch=32, small_size=8, growth=((1.0, 1.0),))
"""20 small steps."""


def trained(pixels: Tensor, labels: Tensor, classes: int = 2, **options: Any) -> PixelClassifier:
    return train_classifier(pixels, labels, classes, **{"config": SHORT, **options})


@pytest.fixture(scope="module")
def classifier() -> PixelClassifier:
    return trained(*bands(60))


# --- learning ---


def test_it_learns_what_tells_the_classes_apart(classifier: PixelClassifier) -> None:
    pixels, labels = bands(100, seed=1)
    assert accuracy(classifier.predict(pixels), labels).low > 0.9


def test_probabilities_are_one_row_an_image(classifier: PixelClassifier) -> None:
    probabilities = classifier.predict(bands(5)[0])
    assert probabilities.shape == (5, 2)
    assert probabilities.dtype == torch.float32
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    assert classifier.predict(torch.empty(0, 1, 8, 8, dtype=torch.uint8)).shape == (0, 2)


def test_each_image_is_classified_alone(classifier: PixelClassifier) -> None:
    pixels = bands(300, seed=2)[0]
    torch.testing.assert_close(classifier.predict(pixels)[299:], classifier.predict(pixels[299:]), atol=1e-5, rtol=1e-4)


def test_with_mirroring_an_image_and_its_mirror_image_are_classified_alike(classifier: PixelClassifier) -> None:
    pixels = halves(6)[0]
    torch.testing.assert_close(classifier.predict(pixels), classifier.predict(pixels.flip(3)))


def test_without_mirroring_left_and_right_are_told_apart() -> None:
    pixels, labels = halves(100, seed=1)
    assert accuracy(trained(*halves(60), flip=False).predict(pixels), labels).low > 0.9


def test_a_seed_decides_everything_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, same, other = (trained(*bands(20), seed=seed).predict(bands(9)[0]) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_classes_count_alike_however_many_images_they_have() -> None:
    """With images that tell nothing, an answer is the classes' share: a half, not a tenth."""
    pixels, labels = torch.full((60, 1, 8, 8), 90, dtype=torch.uint8), (torch.arange(60) % 10 == 0).long()
    assert trained(pixels, labels).predict(pixels)[0, 1] == pytest.approx(0.5, abs=0.2)


def test_a_class_without_images_is_learned_to_be_absent() -> None:
    pixels, labels = bands(40)
    probabilities = trained(pixels, labels, 3).predict(pixels)
    assert probabilities.shape == (40, 3)
    assert probabilities[:, 2].max() < probabilities.max(1).values.min()


@pytest.mark.parametrize(("side", "size"), [(4, 8), (8, 8), (9, 48), (90, 48)])
def test_images_of_any_side_are_resized(side: int, size: int) -> None:
    config = ClassifierConfig(images_seen=(64, 64), batch=32, small_size=8, growth=((1.0, 1.0),))
    found = trained(*bands(10, side=side), flip=False, config=config)
    assert found.size == size
    assert found.predict(bands(3, side=side)[0]).isfinite().all()
    assert found.predict(bands(3, side=33)[0]).shape == (3, 2)


def test_larger_images_are_reduced_to_what_it_looks_at(classifier: PixelClassifier) -> None:
    pixels, labels = bands(60, seed=5)
    larger = pixels.repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert accuracy(classifier.predict(larger), labels).value > 0.9
    assert (classifier.predict(larger) - classifier.predict(pixels)).abs().mean() < 0.1


def test_progress_is_reported_after_every_step() -> None:
    reported: list[tuple[int, int]] = []

    class Reports(Silent):
        def advance(self, task: str, done: int, total: int, *more: object) -> None:
            reported.append((done, total))

    trained(*bands(10), progress=Reports())
    assert reported == [(done, 20) for done in range(1, 21)]


def test_more_images_take_more_steps_within_limits() -> None:
    config = ClassifierConfig()
    fewest, most = config.images_seen
    assert step_count(1, config) == step_count(100, config) == -(-fewest // config.batch)
    assert step_count(1000, config) < step_count(2200, config) < step_count(100_000, config)
    assert step_count(10**6, config) == -(-most // config.batch)


# --- what is refused ---


def test_images_of_other_channels_are_refused(classifier: PixelClassifier) -> None:
    with pytest.raises(CaptionlessError, match="with 1 channels, but these images have 3"):
        classifier.predict(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(("n", "classes"), [(0, 2), (9, 1)])
def test_nothing_to_learn_is_refused(n: int, classes: int) -> None:
    with pytest.raises(TooFewError, match=f"on {n} images of {classes} classes"):
        train_classifier(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), torch.zeros(n, dtype=torch.long), classes)


# --- what it says of itself ---


def test_accuracy_is_the_share_of_images_taken_for_their_class() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    assert accuracy(probabilities, torch.tensor([0, 1, 1, 1])) == share(3, 4)
    with pytest.raises(TooFewError):
        accuracy(probabilities[:0], torch.empty(0, dtype=torch.long))


def test_confusion_has_a_row_a_class_and_a_column_a_guess() -> None:
    probabilities = torch.eye(3)[[0, 2, 2, 1]]
    table = confusion(probabilities, torch.tensor([0, 0, 2, 2]), 3)
    assert table.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert table.dtype == torch.int64


# --- held-out images ---


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_about_a_share_is_held_out_and_nothing_is_lost() -> None:
    digests, labels = [digest(number) for number in range(1000)], ["rose", "tulip"] * 500
    train, test = held_out_split(digests, labels, 0.2)
    assert sorted(train + test) == list(range(1000))
    assert 150 < len(test) < 250


@given(st.lists(st.integers(0, 30), min_size=60, max_size=90))
def test_identical_images_stay_together(numbers: list[int]) -> None:
    digests = [digest(number) for number in (*range(30), *numbers)]
    train, test = held_out_split(digests, ["rose"] * len(digests))
    assert not {digests[place] for place in train} & {digests[place] for place in test}


def test_of_every_class_as_large_a_share_is_held_out() -> None:
    digests, labels = [digest(number) for number in range(135)], ["rose"] * 100 + ["daisy"] * 30 + ["tulip"] * 5
    _, test = held_out_split(digests, labels)
    assert Counter(labels[place] for place in test) == {"rose": 20, "daisy": 6, "tulip": 1}


def test_the_choice_depends_on_what_the_images_are_and_not_on_their_order() -> None:
    digests = [digest(number) for number in range(50)]
    chosen = {digests[place] for place in held_out_split(digests, ["rose"] * 50)[1]}
    turned = digests[::-1]
    assert {turned[place] for place in held_out_split(turned, ["rose"] * 50)[1]} == chosen


def test_a_class_of_too_few_images_is_named() -> None:
    digests = [digest(number) for number in range(104)]
    with pytest.raises(TooFewError, match="the class rose has 4 images, but a classifier needs at least 5 of each"):
        held_out_split(digests, ["tulip"] * 100 + ["rose"] * 4)


def test_copies_do_not_make_a_class_larger() -> None:
    digests = [digest(number) for number in range(100)] + ["0" * 64] * 5
    with pytest.raises(TooFewError, match="the class rose has 1 images"):
        held_out_split(digests, ["tulip"] * 100 + ["rose"] * 5)


# --- its parts ---


def test_images_are_mirrored_only_where_asked() -> None:
    x = random(40, 3, 8, 8)
    generator = torch.Generator().manual_seed(0)
    assert augment(x, 6, True, generator).shape == (40, 3, 6, 6)
    still: dict[str, Any] = {"rotation": 0.0, "zoom": (1.0, 1.0), "shift": 0.0, "colour": 0.0}
    torch.testing.assert_close(augment(x, 8, False, generator, **still), x, atol=1e-4, rtol=0)
    mirrored = augment(x, 8, True, generator, **still)
    same = (mirrored - x).flatten(1).abs().amax(1) < 1e-4
    flipped = (mirrored - x.flip(3)).flatten(1).abs().amax(1) < 1e-4
    assert (same ^ flipped).all()
    assert 5 < same.sum() < 35


def test_whitened_patches_are_uncorrelated() -> None:
    """Of images whose pixels resemble their neighbours, as in photographs."""
    images = torch.nn.functional.avg_pool2d(random(50, 2, 18, 18), 3, stride=1)
    answers = torch.nn.functional.conv2d(images, whitening(images)).transpose(0, 1).flatten(1)
    covariance = answers.cov()[:6, :6]
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=0.02, rtol=0)
    assert ((covariance.diag() > 0.8) & (covariance.diag() < 1.01)).all()


def test_muon_descends_and_keeps_the_length_of_weights() -> None:
    target = uniform(4, 3, 3, 3) - 0.5
    target *= 2 / target.norm()
    weight = torch.nn.Parameter(random(4, 3, 3, 3))
    optimiser = Muon([weight], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        (weight - target).square().sum().backward()
        optimiser.step()
    assert weight.norm().item() == pytest.approx(2, rel=0.1)
    assert torch.cosine_similarity(weight.flatten(), target.flatten(), 0) > 0.95
