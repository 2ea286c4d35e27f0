"""The contract of captionless.models.ema: the running average of the weights."""

import pytest
import torch
from torch import nn

from captionless.models import ema
from captionless.models.unet import Denoiser
from tiny import SHAPE, awake


def network(value: float) -> nn.Module:
    layer = nn.BatchNorm1d(3)  # has weights and buffers
    for tensor in (*layer.parameters(), layer.running_mean):
        nn.init.constant_(tensor, value)  # type: ignore[arg-type]
    return layer


def test_an_update_keeps_the_given_share_of_the_average() -> None:
    average, latest = network(1.0), network(5.0)
    ema.update(average, latest, 0.75)
    for weight in average.parameters():
        torch.testing.assert_close(weight.detach(), torch.full((3,), 0.75 * 1 + 0.25 * 5))
    for weight in latest.parameters():
        assert torch.equal(weight, torch.full((3,), 5.0))


def test_buffers_are_copied_not_averaged() -> None:
    average = network(1.0)
    ema.update(average, network(5.0), 0.75)
    assert torch.equal(average.running_mean, torch.full((3,), 5.0))  # type: ignore[arg-type]


def test_the_copy_that_holds_the_average_is_apart_and_never_trained() -> None:
    source = awake(Denoiser(SHAPE)).train()
    average = ema.average_copy(source)
    assert not average.training
    assert source.training
    for ours, theirs in zip(average.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
        assert not ours.requires_grad
        assert theirs.requires_grad


def test_after_its_half_life_a_steps_weight_has_halved() -> None:
    kept = 1.0
    for _ in range(100):
        kept *= ema.decay(64, 10**9, half_life=6400)
    assert kept == pytest.approx(0.5)


def test_the_batch_size_does_not_change_the_half_life() -> None:
    assert ema.decay(32, 10**9, 5000) ** 4 == pytest.approx(ema.decay(128, 10**9, 5000))


def test_a_short_training_is_averaged_over_its_latest_part_only() -> None:
    """Of the weights a training began with, next to nothing is left early on, whatever the half-life."""
    for steps in (1, 10, 100):
        left = 1.0
        for step in range(1, steps + 1):
            left *= ema.decay(64, 64 * step, half_life=50_000)
        assert left < 0.001


def test_the_half_life_warms_up_and_then_stays() -> None:
    decays = [ema.decay(64, images, 50_000) for images in (64, 6400, 64_000, 640_000, 6_400_000)]
    assert decays == sorted(decays)
    assert decays[1] == pytest.approx(0.5 ** (64 / (ema.WARM_UP * 6400)))
    assert decays[-2] == decays[-1] == pytest.approx(0.5 ** (64 / 50_000))
