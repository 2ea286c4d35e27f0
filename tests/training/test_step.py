"""The contract of captionless.training.step: one batch, what is drawn for it, and steps that run by themselves."""

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from captionless.config.training import PREDICTIONS, WEIGHTINGS, TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.training import step
from captionless.training.randomness import Stream
from captionless.training.step import Batch, step_loss

SCHEDULE = CosineSchedule()
CONFIG = TrainConfig(size=8, width=16, batch=4, images=24, precision="float32")


def drawn(config: TrainConfig, n: int, first: int = 0, **tensors: Tensor) -> dict[str, Any]:
    """What reaches the loss of one batch."""
    seen: dict[str, Any] = {}

    def loss(
        network: Any, schedule: Any, x0: Tensor, condition: Tensor, t: Tensor, eps: Tensor, kind: str, weighting: str
    ) -> Tensor:
        seen.update(x0=x0, condition=condition, t=t, eps=eps, prediction=kind, weighting=weighting)
        return torch.zeros(())

    x0 = tensors.get("x0", tiny.uniform(n, 3, 4, 4, seed=3))
    condition = tensors.get("condition", tiny.unit_vectors(n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "denoising_loss", loss)
        stream = Stream(config.seed, first + torch.arange(n))
        step_loss(torch.nn.Identity(), SCHEDULE, Batch(x0, condition), config.replace(batch=n), stream)
    return seen


def test_about_half_of_the_images_are_mirrored_left_to_right() -> None:
    x0 = tiny.uniform(2000, 3, 4, 4, seed=3)
    seen = drawn(CONFIG, 2000, x0=x0)["x0"]
    mirrored = (seen == x0.flip(3)).flatten(1).all(1)
    assert ((seen == x0).flatten(1).all(1) ^ mirrored).all()
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(drawn(CONFIG.replace(flip=False), 50, x0=x0[:50])["x0"], x0[:50])


def test_the_wanted_share_of_conditions_is_null_and_the_others_are_untouched() -> None:
    condition = tiny.unit_vectors(4000)
    seen = drawn(CONFIG.replace(condition_drop=0.2, condition_cosine=1.0), 4000, condition=condition)["condition"]
    null = (seen == 0).all(1)
    assert null.float().mean() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(seen[~null], condition[~null])


def test_noise_takes_conditions_to_the_wanted_cosine_and_null_ones_stay_null() -> None:
    condition = tiny.unit_vectors(2000, 512)
    seen = drawn(CONFIG.replace(condition_cosine=0.7), 2000, condition=condition)["condition"]
    null = (seen == 0).all(1)
    assert null.float().mean() == pytest.approx(0.1, abs=0.03)
    assert (seen * condition).sum(1)[~null].mean() == pytest.approx(0.7, abs=0.01)


def test_an_element_wise_mask_drops_the_wanted_share_of_elements_and_no_vector() -> None:
    condition = tiny.unit_vectors(400, 512)
    config = CONFIG.replace(mask="element", condition_drop=0.2, condition_cosine=1.0)
    seen = drawn(config, 400, condition=condition)["condition"]
    dropped = seen == 0
    assert dropped.float().mean() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(seen[~dropped], condition[~dropped])
    assert not dropped.all(1).any()
    # What is dropped of a noisy vector is 0, not noise.
    noisy = drawn(config.replace(condition_cosine=0.7), 400, condition=condition)["condition"]
    assert (noisy == 0).float().mean() == pytest.approx(0.2, abs=0.01)


def test_a_class_is_dropped_as_a_whole_by_the_element_wise_mask() -> None:
    condition = torch.nn.functional.one_hot(torch.arange(4000) % 10, 10).float()
    config = CONFIG.replace(mask="element", condition_drop=0.2, condition_cosine=1.0)
    seen = drawn(config, 4000, condition=condition)["condition"]
    null = (seen == 0).all(1)
    assert null.float().mean() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(seen[~null], condition[~null])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_is_of_the_prediction_and_the_weighting_that_the_settings_name(
    prediction: str, weighting: str
) -> None:
    seen = drawn(CONFIG.replace(prediction=prediction, weighting=weighting), 4)
    assert (seen["prediction"], seen["weighting"]) == (prediction, weighting)


def test_log_normal_levels_are_drawn_if_the_settings_name_them() -> None:
    alpha, sigma = SCHEDULE.alpha_sigma(drawn(CONFIG.replace(weighting="log-normal"), 500)["t"])
    level = (sigma / alpha).log()
    assert (level.mean(), level.std()) == (pytest.approx(-1.2, abs=0.02), pytest.approx(1.2, abs=0.02))


def test_times_cover_all_noise_levels_and_noise_is_standard_normal() -> None:
    seen = drawn(CONFIG, 500)
    assert sorted((seen["t"] * 500).int().tolist()) == list(range(500))
    assert seen["eps"].mean() == pytest.approx(0, abs=0.03)
    assert seen["eps"].std() == pytest.approx(1, abs=0.03)


def test_what_is_drawn_for_an_image_is_independent_of_each_other() -> None:
    """Neither flips nor dropped conditions go with certain times."""
    x0 = tiny.uniform(4000, 1, 2, 2, seed=3)
    seen = drawn(CONFIG.replace(condition_drop=0.5), 4000, x0=x0)
    features = torch.stack(
        [
            seen["t"],
            (seen["x0"] == x0).flatten(1).all(1).float(),
            (seen["condition"] == 0).all(1).float(),
            seen["eps"][:, 0, 0, 0],
        ]
    )
    assert (features.corrcoef() - torch.eye(4)).abs().max() < 0.06


def test_a_batch_is_decided_by_the_seed_and_its_positions_alone() -> None:
    first, again, later = drawn(CONFIG, 20), drawn(CONFIG, 20), drawn(CONFIG, 20, first=20)
    other = drawn(CONFIG.replace(seed=1), 20)
    for name in ("t", "eps"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], later[name])
        assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("mask", ["vector", "element"])
def test_what_is_drawn_for_an_image_does_not_depend_on_the_others_of_its_part(mask: str) -> None:
    config, x0, condition = (
        CONFIG.replace(mask=mask, condition_drop=0.5),
        tiny.uniform(8, 3, 5, 5),
        tiny.unit_vectors(8),
    )
    whole = drawn(config, 8, x0=x0, condition=condition)
    seen: dict[str, Any] = {}

    def loss(*given: Any) -> Tensor:
        seen.update(x0=given[2], condition=given[3], t=given[4], eps=given[5])
        return torch.zeros(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "denoising_loss", loss)
        part = Batch(x0[3:6], condition[3:6])
        step_loss(torch.nn.Identity(), SCHEDULE, part, config.replace(batch=8), Stream(0, torch.arange(3, 6)))
    for name, value in seen.items():
        assert torch.equal(value, whole[name][3:6])
