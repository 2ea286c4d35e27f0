"""The contract of captionless.guidance: leaning away from the unconditional prediction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captionless.guidance import guide, guided_denoiser
from captionless.objective import x0_from_v
from captionless.schedule import CosineSchedule
from tiny import random, unit_vectors

SCHEDULE = CosineSchedule()
T = torch.tensor(0.4, dtype=torch.float64)


class Network:
    """Answers a little noise and a little condition, and notes what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.calls.append((xt, t, condition))
        return 0.05 * xt + 0.1 * condition[:, :1, None, None]


def denoised(w: Tensor | float, n: int = 3, xt: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
    xt = 0.1 * random(n, 3, 4, 4) if xt is None else xt
    condition = unit_vectors(n) if condition is None else condition
    return guided_denoiser(Network(), SCHEDULE, condition, w)(xt, T)


def plain(condition: Tensor) -> Tensor:
    """What the network alone predicts."""
    xt = 0.1 * random(len(condition), 3, 4, 4)
    alpha, sigma = (float(value) for value in SCHEDULE.alpha_sigma(T))
    return x0_from_v(xt, Network()(xt, T.expand(len(condition)), condition), alpha, sigma)


# --- the formula ---


@given(w=st.floats(-10, 10), cond=st.floats(-3, 3), uncond=st.floats(-3, 3))
def test_guidance_is_one_plus_w_times_cond_minus_w_times_uncond(w: float, cond: float, uncond: float) -> None:
    guided = guide(torch.tensor(cond, dtype=torch.float64), torch.tensor(uncond, dtype=torch.float64), w)
    assert float(guided) == pytest.approx((1 + w) * cond - w * uncond, abs=1e-9)


def test_scale_0_is_the_conditional_prediction() -> None:
    torch.testing.assert_close(denoised(0.0), plain(unit_vectors(3)))


def test_scale_minus_1_is_the_unconditional_prediction() -> None:
    torch.testing.assert_close(denoised(-1.0), plain(torch.zeros(3, 8)))


@pytest.mark.parametrize("w", [-2.0, 0.5, 2.0, 3.5])
def test_other_scales_extrapolate_between_the_two(w: float) -> None:
    expected = (1 + w) * plain(unit_vectors(3)) - w * plain(torch.zeros(3, 8))
    torch.testing.assert_close(denoised(w), expected)


def test_every_picture_may_have_its_own_scale() -> None:
    together = denoised(torch.tensor([-1.0, 0.0, 2.0]))
    for i, w in enumerate((-1.0, 0.0, 2.0)):
        torch.testing.assert_close(together[i], denoised(w)[i])


# --- how the network is called ---


@pytest.mark.parametrize("w", [-1.0, 2.0])
def test_both_predictions_come_from_one_batched_call(w: float) -> None:
    network, condition, xt = Network(), unit_vectors(3), random(3, 3, 4, 4)
    guided_denoiser(network, SCHEDULE, condition, w)(xt, T)
    ((seen, times, conditions),) = network.calls
    assert torch.equal(seen, torch.cat([xt, xt]))
    assert torch.equal(conditions, torch.cat([condition, torch.zeros(3, 8)]))
    assert times.shape == (6,)


def test_without_guidance_the_unconditional_prediction_is_not_computed() -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, unit_vectors(3), 0.0)(random(3, 3, 4, 4), T)
    assert [len(xt) for xt, _, _ in network.calls] == [3]


def test_the_network_gets_its_time_in_float32_once_a_picture() -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, unit_vectors(2), 0.0)(random(2, 3, 4, 4), T)
    times = network.calls[0][1]
    assert times.dtype == torch.float32
    assert times.tolist() == pytest.approx([0.4, 0.4])


# --- what comes out ---


def test_predicted_pictures_are_clipped_to_the_range_of_pictures() -> None:
    x0 = denoised(5.0, xt=3 * random(3, 3, 4, 4))
    assert x0.min() == -1
    assert x0.max() == 1


def test_a_network_that_answers_in_bf16_is_continued_in_float32() -> None:
    def network(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return xt.bfloat16()

    for w in (0.0, 2.0):
        assert guided_denoiser(network, SCHEDULE, unit_vectors(2), w)(random(2, 3, 4, 4), T).dtype == torch.float32
