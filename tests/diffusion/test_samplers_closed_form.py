"""diffusion.samplers against closed forms: data whose ideal denoiser, marginals and exact flow are known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from captionless.diffusion.reverse import ReverseProcess, Sampling
from captionless.diffusion.sampler_run import run_sampler
from captionless.diffusion.samplers import ddpm
from captionless.diffusion.schedules import CosineSchedule, Schedule, sampling_times
from gaussian import (
    StraightLine,
    distance_to_mixture,
    even_shares,
    exact_flow,
    exact_moments,
    ideal_denoiser,
    mixture_denoiser,
    mixture_flow,
    mixture_quantiles,
    sampled_moments,
)
from sampler_cases import ANCESTRAL, CHURNING, DETERMINISTIC, EVERY, draws, never
from tiny import random

Sampler = Callable[..., Sampling]

PATHS = {"cosine": CosineSchedule(), "flow": StraightLine()}

ORDERS = {
    "ddim": 1,
    "euler": 1,
    "dpmpp-2m": 2,
    "heun": 2,
    "unipc": 3,  # of a predictor of order 2 and a corrector that adds one (arXiv:2302.04867, theorem 3.1)
    "ddpm": 1,
    "ddpm-upper": 1,
    "ddim-eta": 1,
    "dpmpp-2m-sde": 2,
    "dpmpp-2m-sde-eta": 2,
    "euler-ancestral": 1,
    "euler-ancestral-eta": 1,
    "euler-churn": 1,
    "heun-churn": 2,
}
"""Of convergence: of the ODE solvers along every path, of the others in the moments of what they draw."""

on_both_paths = pytest.mark.parametrize("schedule", PATHS.values(), ids=PATHS)


def uneven_times(start: float, end: float, steps: int) -> Tensor:
    """Every other step is twice as long: a solver of order 2 that mistakes a ratio of steps is of order 1 on them."""
    lengths = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(steps // 2)
    passed = torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0) / lengths.sum()])
    return start + (end - start) * passed


def order(errors: list[float]) -> float:
    """The order of convergence that errors at N, 2N, 4N ... steps show at their end."""
    return float(torch.tensor(errors[-2] / errors[-1]).log2())


def assert_order(errors: list[float], expected: int) -> None:
    """The order, and the size of the error, of which the order says nothing."""
    assert expected - 0.25 < order(errors) < expected + 0.4
    assert errors[-1] < {1: 0.02, 2: 1e-3, 3: 1e-4}[expected]


# --- what is drawn: mean, covariance, distribution ---


@pytest.mark.parametrize("name", EVERY)
@on_both_paths
def test_the_mean_and_the_covariance_of_gaussian_data_are_reached(name: str, schedule: Schedule) -> None:
    mean, covariance = sampled_moments(EVERY[name], schedule, sampling_times(50))
    exact_mean, exact_covariance = exact_moments(schedule, torch.zeros(()))
    # What is left of the image at t = 1 of the cosine, exp(-6.5), is missing from pure noise, and from the mean.
    torch.testing.assert_close(mean, exact_mean, atol=5e-4, rtol=0)
    tolerance = {1: 0.05, 2: 0.013, 3: 0.001}[ORDERS[name]]
    torch.testing.assert_close(covariance, exact_covariance, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", DETERMINISTIC)
@on_both_paths
def test_every_quantile_of_a_mixture_is_reached_without_noise(name: str, schedule: Schedule) -> None:
    distance = distance_to_mixture(DETERMINISTIC[name], schedule, sampling_times(100), never, 400)
    assert distance < {1: 6e-3, 2: 6e-4, 3: 3e-4}[ORDERS[name]]


@pytest.mark.parametrize("name", ANCESTRAL | CHURNING)
@on_both_paths
def test_a_mixture_is_reached_with_noise(name: str, schedule: Schedule) -> None:
    noise = draws(torch.Size((4000, 1)), dtype=torch.float64)
    distance = distance_to_mixture(EVERY[name], schedule, sampling_times(30), noise, 4000)
    assert distance < {1: 0.045, 2: 0.025}[ORDERS[name]]


# --- how fast ---


@pytest.mark.parametrize("name", DETERMINISTIC)
@on_both_paths
def test_gaussian_data_are_followed_with_the_order_of_theory(name: str, schedule: Schedule) -> None:
    x, errors = random(8, 2).double(), []
    for steps in (40, 80, 160):
        times = uneven_times(0.9, 0.1, steps)
        end = run_sampler(DETERMINISTIC[name](x, ReverseProcess(schedule, times)), ideal_denoiser(schedule))
        errors.append(float((end - exact_flow(schedule, x, times[0], times[-1])).abs().max()))
    assert_order(errors, ORDERS[name])


@pytest.mark.parametrize("name", DETERMINISTIC)
@on_both_paths
def test_a_mixture_is_followed_with_the_order_of_theory(name: str, schedule: Schedule) -> None:
    errors = []
    for steps in (40, 80, 160):
        times = uneven_times(0.9, 0.1, steps)
        x = mixture_quantiles(schedule, even_shares(40), times[0])
        end = run_sampler(DETERMINISTIC[name](x, ReverseProcess(schedule, times)), mixture_denoiser(schedule))
        errors.append(float((end - mixture_flow(schedule, x, times[0], times[-1])).abs().max()))
    assert_order(errors, ORDERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ANCESTRAL | CHURNING)
@on_both_paths
def test_the_moments_of_noisy_samplers_converge_with_the_order_of_theory(name: str, schedule: Schedule) -> None:
    errors = []
    for steps in (40, 80):
        times = uneven_times(1.0, 0.1, steps)
        _, covariance = sampled_moments(EVERY[name], schedule, times)
        errors.append(float((covariance - exact_moments(schedule, times[-1])[1]).abs().max()))
    assert ORDERS[name] - 0.25 < order(errors) < ORDERS[name] + 0.4
    assert errors[-1] < {1: 0.04, 2: 0.006}[ORDERS[name]]


# --- the two variances of DDPM ---


def test_an_ancestral_step_has_the_posterior_mean_and_variance_of_ddpm_equations_6_and_7() -> None:
    betas = torch.linspace(1e-4, 0.02, 150, dtype=torch.float64)
    alphas, alpha_bar = 1 - betas, (1 - betas).cumprod(0)
    x, x0 = random(3, 2, 2, 2).double(), random(3, 2, 2, 2, seed=1).double()

    class Table:
        def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return alpha_bar[int(t * 150)].sqrt(), (1 - alpha_bar[int(t * 150)]).sqrt()

    for t in (1, 70, 149):
        before, now = alpha_bar[t - 1], alpha_bar[t]
        mean = before.sqrt() * betas[t] / (1 - now) * x0 + alphas[t].sqrt() * (1 - before) / (1 - now) * x
        times = torch.tensor([t + 0.5, t - 0.5], dtype=torch.float64) / 150
        for variance, value in (("lower", (1 - before) / (1 - now) * betas[t]), ("upper", betas[t])):
            for z in (torch.zeros_like(x), torch.ones_like(x)):
                process = ReverseProcess(Table(), times, lambda z=z: z)
                end = run_sampler(ddpm(x, process, variance=variance), lambda xt, t: x0)
                torch.testing.assert_close(end, mean + value.sqrt() * z, atol=1e-12, rtol=0)


@on_both_paths
def test_the_upper_variance_is_exact_for_white_noise_and_the_lower_for_a_single_image(schedule: Schedule) -> None:
    """Section 3.2 of arXiv:2006.11239, whatever the number of steps: one image's worth of noise, 20000 times."""
    x, z = random(20000, 1).double(), draws(torch.Size((20000, 1)), dtype=torch.float64)
    times = torch.tensor([1.0, 0.7, 0.4], dtype=torch.float64)
    alpha, sigma = (float(value) for value in schedule.alpha_sigma(times[-1]))

    def white(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha_sigma(t)
        return alpha / (alpha**2 + sigma**2) * xt

    end = run_sampler(ddpm(x, ReverseProcess(schedule, times, z), variance="upper"), white)
    assert float(end.var()) == pytest.approx(alpha**2 + sigma**2, rel=0.02)
    end = run_sampler(ddpm(x, ReverseProcess(schedule, times, z)), lambda xt, t: torch.full_like(xt, 0.5))
    assert float(end.var()) == pytest.approx(sigma**2, rel=0.02)
    assert float(end.mean()) == pytest.approx(alpha * 0.5, abs=0.02)
