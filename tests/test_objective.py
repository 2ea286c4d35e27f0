"""The contract of captionless.objective: what the denoiser learns, and what is done to the condition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captionless.errors import CaptionlessError
from captionless.objective import (
    denoising_loss,
    drop_condition,
    eps_from_v,
    noise_condition,
    stratified_times,
    v_target,
    x0_from_v,
)
from captionless.schedule import CosineSchedule, add_noise
from tiny import random, uniform, unit_vectors

SCHEDULE = CosineSchedule()


# --- x0, eps and v ---


@given(t=st.floats(0, 1), x0=st.floats(-1, 1), eps=st.floats(-5, 5))
def test_the_conversions_invert_the_target(t: float, x0: float, eps: float) -> None:
    alpha, sigma = SCHEDULE.alpha_sigma(torch.tensor(t, dtype=torch.float64))
    clean, noise = torch.tensor(x0, dtype=torch.float64), torch.tensor(eps, dtype=torch.float64)
    xt, v = alpha * clean + sigma * noise, v_target(clean, noise, alpha, sigma)
    torch.testing.assert_close(x0_from_v(xt, v, alpha, sigma), clean, atol=1e-12, rtol=0)
    torch.testing.assert_close(eps_from_v(xt, v, alpha, sigma), noise, atol=1e-12, rtol=0)


@given(t=st.floats(0, 1), xt=st.floats(-5, 5), v=st.floats(-5, 5))
def test_the_target_inverts_the_conversions(t: float, xt: float, v: float) -> None:
    alpha, sigma = SCHEDULE.alpha_sigma(torch.tensor(t, dtype=torch.float64))
    noisy, predicted = torch.tensor(xt, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)
    x0, eps = x0_from_v(noisy, predicted, alpha, sigma), eps_from_v(noisy, predicted, alpha, sigma)
    torch.testing.assert_close(v_target(x0, eps, alpha, sigma), predicted, atol=1e-12, rtol=0)
    torch.testing.assert_close(alpha * x0 + sigma * eps, noisy, atol=1e-12, rtol=0)


def test_v_is_the_velocity_on_the_circle_from_picture_to_noise() -> None:
    """With ``alpha = cos a`` and ``sigma = sin a``, v is ``d xt / d a`` (arXiv:2202.00512, app. D)."""
    x0, eps, angle, step = uniform(5).double(), random(5).double(), 0.7, 1e-6

    def xt(a: float) -> Tensor:
        return math.cos(a) * x0 + math.sin(a) * eps

    velocity = (xt(angle + step) - xt(angle - step)) / (2 * step)
    torch.testing.assert_close(v_target(x0, eps, math.cos(angle), math.sin(angle)), velocity, atol=1e-8, rtol=0)


# --- the loss ---


def batch(n: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return uniform(n, 3, 4, 4) * 2 - 1, unit_vectors(n), uniform(n, seed=1), random(n, 3, 4, 4, seed=2)


def test_the_loss_of_the_perfect_network_is_zero() -> None:
    x0, condition, t, eps = batch()

    def perfect(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in SCHEDULE.alpha_sigma(t))
        return alpha * eps - sigma * x0

    assert denoising_loss(perfect, SCHEDULE, x0, condition, t, eps) == pytest.approx(0, abs=1e-12)


def test_the_loss_is_the_mean_squared_error_of_v() -> None:
    x0, condition, t, eps = batch()
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in SCHEDULE.alpha_sigma(t))
    expected = (alpha * eps - sigma * x0 - 0.25).square().mean()
    loss = denoising_loss(lambda xt, t, c: torch.full_like(xt, 0.25), SCHEDULE, x0, condition, t, eps)
    torch.testing.assert_close(loss, expected)


def test_the_network_is_shown_the_noisy_picture_its_time_and_its_condition() -> None:
    x0, condition, t, eps = batch()
    seen: list[Tensor] = []

    def network(*inputs: Tensor) -> Tensor:
        seen.extend(inputs)
        return inputs[0]

    denoising_loss(network, SCHEDULE, x0, condition, t, eps)
    for given_, expected in zip(seen, (add_noise(SCHEDULE, x0, eps, t), t, condition), strict=True):
        torch.testing.assert_close(given_, expected)


def test_the_loss_is_computed_in_float32_when_the_network_answers_in_bf16() -> None:
    x0, condition, t, eps = batch()
    loss = denoising_loss(lambda xt, t, c: xt.bfloat16(), SCHEDULE, x0, condition, t, eps)
    assert loss.dtype == torch.float32


# --- times ---


@given(n=st.integers(1, 100), seed=st.integers(0, 1000))
def test_each_nth_of_the_times_is_visited_exactly_once(n: int, seed: int) -> None:
    t = stratified_times(uniform(n, seed=seed).double())
    assert sorted((t * n).floor().int().tolist()) == list(range(n))


def test_every_time_is_equally_likely_over_many_batches() -> None:
    """Also inside each n-th: a network must not be left without training between a few times."""
    t = torch.cat([stratified_times(uniform(16, seed=seed)) for seed in range(2000)])
    counts = torch.histc(t, bins=320, min=0, max=1)  # 100 times are expected in each bin, with a deviation of 10
    assert counts.min() > 50
    assert counts.max() < 160


# --- condition dropout ---


def test_the_wanted_share_of_conditions_is_dropped() -> None:
    kept = drop_condition(torch.ones(50_000, 2), uniform(50_000), 0.1)
    assert (kept == 0).all(1).float().mean() == pytest.approx(0.1, abs=0.006)


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_vector_is_dropped_whole_or_not_at_all(seed: int, share: float) -> None:
    condition = unit_vectors(20, seed=seed)
    kept = drop_condition(condition, uniform(20, seed=seed + 1), share)
    for before, after in zip(condition, kept, strict=True):
        assert torch.equal(after, before) or not after.any()


def test_a_share_of_0_drops_none_and_of_1_all() -> None:
    condition, chances = unit_vectors(20), torch.linspace(0, 1 - 2**-24, 20)
    assert torch.equal(drop_condition(condition, chances, 0.0), condition)
    assert not drop_condition(condition, chances, 1.0).any()


# --- condition noise ---


@pytest.mark.parametrize("cosine", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("width", [512, 768])
def test_noise_turns_a_vector_to_the_wanted_cosine(cosine: float, width: int) -> None:
    condition = unit_vectors(2000, width)
    noisy = noise_condition(condition, random(2000, width, seed=1), cosine)
    torch.testing.assert_close(noisy.norm(dim=1), torch.ones(2000))
    assert (noisy * condition).sum(1).mean() == pytest.approx(cosine, abs=0.005)


def test_a_cosine_of_1_leaves_vectors_as_they_are() -> None:
    condition = unit_vectors(3)
    assert torch.equal(noise_condition(condition, random(3, 8), 1.0), condition)


@pytest.mark.parametrize("cosine", [0.0, -0.5, 1.01, math.nan])
def test_an_impossible_cosine_is_refused(cosine: float) -> None:
    with pytest.raises(CaptionlessError, match="cosine"):
        noise_condition(unit_vectors(3), random(3, 8), cosine)
