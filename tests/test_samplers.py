"""The contract of captionless.samplers: against closed forms, and against a second implementation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from captionless import sampling
from captionless.samplers import SAMPLERS, ddim, ddpm, dpmpp_2m
from captionless.schedule import CosineSchedule, sampling_times
from gaussian import COVARIANCE, MEAN, exact_flow, ideal_denoiser, sampled_moments
from tiny import random

SCHEDULE = CosineSchedule()


class TableSchedule:
    """The discrete steps 1 to T of a table of ``alpha_bar`` at the times 1/T to 1; the clean picture at 0."""

    def __init__(self, alpha_bar: Tensor) -> None:
        self.alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar.double()])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alpha_bar[(t * (len(self.alpha_bar) - 1)).round().long()]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def never() -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")


def draws(shape: torch.Size, seed: int = 1) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


# --- the contract ---


def test_every_name_of_the_command_line_is_a_sampler() -> None:
    assert set(SAMPLERS) == set(sampling.SAMPLERS)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_each_step_calls_the_denoiser_and_the_callback_once(sampler: Any, steps: int) -> None:
    x, times = random(2, 3, 4, 4), sampling_times(steps)
    calls: list[tuple[Tensor, float, Tensor]] = []
    seen: list[tuple[int, float, Tensor, Tensor]] = []

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        calls.append((xt, float(t), 0.5 * xt))
        return calls[-1][2]

    sampler(denoise, x, times, SCHEDULE, draws(x.shape), lambda *what: seen.append(what))
    assert [t for _, t, _ in calls] == times[:-1].tolist()
    assert calls[0][0] is x
    assert [step for step, *_ in seen] == list(range(steps))
    for (xt, t, x0), (_, seen_t, seen_xt, seen_x0) in zip(calls, seen, strict=True):
        assert t == seen_t
        assert xt is seen_xt
        assert x0 is seen_x0


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_last_prediction_of_the_clean_picture_is_the_result(sampler: Any) -> None:
    x, predicted = random(2, 3, 4, 4), []

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        predicted.append(torch.tanh(xt))
        return predicted[-1]

    assert sampler(denoise, x, sampling_times(4), SCHEDULE, draws(x.shape)) is predicted[-1]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_noise_handed_in_is_not_overwritten(sampler: Any) -> None:
    x = random(2, 3, 4, 4)
    sampler(lambda xt, t: 0.5 * xt, x, sampling_times(4), SCHEDULE, draws(x.shape))
    assert torch.equal(x, random(2, 3, 4, 4))


def test_ancestral_sampling_draws_noise_after_every_step_but_the_last() -> None:
    drawn: list[Tensor] = []

    def noise() -> Tensor:
        drawn.append(random(2, 3, 4, 4, seed=len(drawn)))
        return drawn[-1]

    ddpm(lambda xt, t: 0.5 * xt, random(2, 3, 4, 4), sampling_times(5), SCHEDULE, noise)
    assert len(drawn) == 4


@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m])
def test_the_deterministic_samplers_draw_no_noise(sampler: Any) -> None:
    sampler(lambda xt, t: 0.5 * xt, random(2, 3, 4, 4), sampling_times(5), SCHEDULE, never)


# --- against closed forms: Gaussian data, whose ideal denoiser is known ---


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [(ddpm, 1000, 0.0025), (ddim, 1000, 0.001), (dpmpp_2m, 100, 0.001)],
    ids=["ddpm", "ddim", "dpmpp-2m"],
)
def test_the_mean_and_the_covariance_of_the_data_are_reached(sampler: Any, steps: int, tolerance: float) -> None:
    mean, covariance = sampled_moments(sampler, SCHEDULE, sampling_times(steps))
    # What is left of the picture at t = 1, exp(-6.5), is missing from pure noise, and hence from the mean.
    torch.testing.assert_close(mean, MEAN, atol=5e-4, rtol=0)
    torch.testing.assert_close(covariance, COVARIANCE, atol=tolerance, rtol=0)


def order(errors: list[float]) -> float:
    """The order of convergence that errors at N, 2N, 4N ... steps show at their end."""
    return float(torch.tensor(errors[-2] / errors[-1]).log2())


def flow_errors(sampler: Any, counts: list[int]) -> list[float]:
    """Largest deviations from the exact flow from t = 0.9 to 0.1, where no step is special."""
    x, errors = random(8, 2).double(), []
    for steps in counts:
        times = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        end = sampler(ideal_denoiser(SCHEDULE), x, times, SCHEDULE, never)
        errors.append(float((end - exact_flow(SCHEDULE, x, times[0], times[-1])).abs().max()))
    return errors


def test_ddim_converges_to_the_exact_flow_with_order_1() -> None:
    errors = flow_errors(ddim, [40, 80, 160])
    assert errors[-1] < 0.01
    assert 0.95 < order(errors) < 1.1


def test_dpmpp_2m_converges_to_the_exact_flow_with_order_2() -> None:
    errors = flow_errors(dpmpp_2m, [40, 80, 160])
    assert errors[-1] < 1e-4
    assert 1.9 < order(errors) < 2.2


def test_ddpm_converges_to_the_covariance_with_order_1() -> None:
    errors = []
    for steps in (200, 400):
        _, covariance = sampled_moments(ddpm, SCHEDULE, sampling_times(steps))
        errors.append(float((covariance - COVARIANCE).abs().max()))
    assert 0.85 < order(errors) < 1.2


def test_dpmpp_2m_needs_a_tenth_of_the_steps_of_ddim() -> None:
    (few,), (many,) = flow_errors(dpmpp_2m, [20]), flow_errors(ddim, [200])
    assert few < many


# --- against the paper: the posterior of DDPM ---


def test_an_ancestral_step_has_the_posterior_mean_and_variance_of_ddpm_equations_6_and_7() -> None:
    betas = torch.linspace(1e-4, 0.02, 150, dtype=torch.float64)
    alphas, alpha_bar = 1 - betas, (1 - betas).cumprod(0)
    x, x0 = random(3, 2, 2, 2).double(), random(3, 2, 2, 2, seed=1).double()
    for t in (1, 70, 149):  # counted from 0, so that the step before it is t - 1
        before, now = alpha_bar[t - 1], alpha_bar[t]
        mean = before.sqrt() * betas[t] / (1 - now) * x0 + alphas[t].sqrt() * (1 - before) / (1 - now) * x
        variance = (1 - before) / (1 - now) * betas[t]
        times = torch.tensor([t + 1, t], dtype=torch.float64) / 150
        for noise in (torch.zeros_like(x), torch.ones_like(x)):
            out = ddpm(lambda xt, t: x0, x, times, TableSchedule(alpha_bar), lambda noise=noise: noise)
            torch.testing.assert_close(out, mean + variance.sqrt() * noise, atol=1e-12, rtol=0)


# --- against diffusers ---

KINDS = {
    "ddpm": (ddpm, DDPMScheduler, {"variance_type": "fixed_small", "clip_sample": False}),
    "ddim": (ddim, DDIMScheduler, {"clip_sample": False}),
    "dpmpp-2m": (
        dpmpp_2m,
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero"},
    ),
}


def network(xt: Tensor, time: float) -> Tensor:
    """Some smooth answer that mixes pixels and depends on the time."""
    return torch.tanh(0.7 * xt.roll(1, 3) - 0.4 * xt.roll(1, 2) + time)


def their_trajectory(scheduler: Any, x: Tensor, scale: int) -> list[Tensor]:
    generator, trajectory = torch.Generator().manual_seed(1), [x]
    stochastic = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, (int(t) + 1) / scale), t, x, **stochastic).prev_sample
        trajectory.append(x)
    return trajectory


def our_trajectory(sampler: Any, scheduler: Any, x: Tensor, prediction: str) -> list[Tensor]:
    schedule = TableSchedule(scheduler.alphas_cumprod)
    steps = torch.cat([scheduler.timesteps.double() + 1, torch.zeros(1, dtype=torch.float64)])
    trajectory: list[Tensor] = []

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
        answer = network(xt, float(t))
        predictions = {
            "epsilon": (xt - sigma * answer) / alpha,
            "v_prediction": alpha * xt - sigma * answer,
            "sample": answer,
        }
        return predictions[prediction]

    times = steps / len(scheduler.alphas_cumprod)
    end = sampler(denoise, x, times, schedule, draws(x.shape), lambda step, t, x, x0: trajectory.append(x))
    return [*trajectory, end]


def assert_same_trajectory(kind: str, prediction: str, length: int, steps: int, *, wide: bool = False) -> None:
    sampler, scheduler_class, options = KINDS[kind]
    scheduler = scheduler_class(
        length, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", prediction_type=prediction, **options
    )
    if wide:
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(steps)
    x = random(2, 3, 8, 8)
    theirs = torch.stack(their_trajectory(scheduler, x, length))
    ours = torch.stack(our_trajectory(sampler, scheduler, x, prediction))
    assert len(ours) == steps + 1
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "steps"), [(1000, 10), (1000, 20), (150, 50)])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_trajectories_are_those_of_diffusers(kind: str, prediction: str, length: int, steps: int) -> None:
    assert_same_trajectory(kind, prediction, length, steps)


@pytest.mark.parametrize("length", [150, 1000])
def test_the_full_chain_of_ddpm_is_that_of_diffusers(length: int) -> None:
    """Step by step; ``diffusers`` computes with its float32 table in float64 here, else its betas lose 4 digits."""
    assert_same_trajectory("ddpm", "epsilon", length, length, wide=True)
