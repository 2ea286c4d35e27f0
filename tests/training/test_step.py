"""The contract of captionless.training.step: one batch, and what is drawn for it."""

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from captionless.config.training import PREDICTIONS, WEIGHTINGS, TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.training import step
from captionless.training.dataset import batch_indices
from captionless.training.step import Batch, step_generator, step_loss

SCHEDULE = CosineSchedule()
CONFIG = TrainConfig(size=8, width=16, batch=4, images=24, precision="float32")


def drawn(config: TrainConfig, n: int, seed: int = 0, **tensors: Tensor) -> dict[str, Any]:
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
        step_loss(torch.nn.Identity(), SCHEDULE, Batch(x0, condition), config, step_generator(0, 0, seed))
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


def test_a_batch_is_decided_by_its_generator_alone() -> None:
    first, again, other = drawn(CONFIG, 20, seed=4), drawn(CONFIG, 20, seed=4), drawn(CONFIG, 20, seed=8)
    for name in ("t", "eps"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_the_randomness_of_a_step_is_what_it_always_was() -> None:
    """A training begun with an earlier version continues exactly."""
    seeds = [step_generator(*key).initial_seed() for key in ((0, 0, 0), (3, 1, 640), (2**40, 3, 10**9), (0, -1, 2))]
    assert seeds == [668265295, 1480210781, 677127996, 1013904370]


# --- the order of the images ---


def stream(n: int, batches: int, config: TrainConfig = CONFIG, processes: int = 1) -> list[int]:
    """The images that all processes together see."""
    order: list[int] = []
    for number in range(batches):
        images = number * config.batch * processes
        for process in range(processes):
            order += batch_indices(n, images, config, process).tolist()
    return order


@pytest.mark.parametrize("n", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_image_is_seen_once_before_any_is_seen_again(n: int, processes: int) -> None:
    order = stream(n, 60, processes=processes)
    assert len(order) == 60 * 4 * processes
    for epoch in range(len(order) // n):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides() -> None:
    order = stream(20, 20)
    epochs = {tuple(order[i : i + 20]) for i in range(0, 80, 20)}
    assert len(epochs) == 4
    assert stream(20, 20) == order
    assert stream(20, 20, CONFIG.replace(seed=1)) != order


def test_the_randomness_of_a_step_follows_from_seed_process_and_images_seen() -> None:
    def numbers(*key: int) -> list[float]:
        return torch.rand(4, generator=step_generator(*key)).tolist()

    assert numbers(1, 2, 3) == numbers(1, 2, 3)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, -1, 0), (0, 0, 64), (2**40, 3, 10**9)]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)
