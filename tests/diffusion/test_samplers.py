"""The contract that every sampler of captionless.diffusion.samplers keeps."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from captionless.diffusion.reverse import ReverseProcess, Sampling
from captionless.diffusion.sampler_run import Step, run_sampler
from captionless.diffusion.samplers import (
    SAMPLERS,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    heun,
)
from captionless.diffusion.schedules import (
    CosineSchedule,
    KarrasSchedule,
    LinearSchedule,
    Schedule,
    log_snr,
    sampling_times,
)
from gaussian import StraightLine
from sampler_cases import ANCESTRAL, CHURNING, DETERMINISTIC, EVERY, draws, never
from tiny import random

SCHEDULE = CosineSchedule()
PATHS = {"cosine": SCHEDULE, "flow": StraightLine()}
ENDLESS = {"flow": StraightLine(), "zero-snr": LinearSchedule(zero_terminal_snr=True)}

Sampler = Callable[..., Sampling]

every = pytest.mark.parametrize("sampler", EVERY.values(), ids=EVERY)
deterministic = pytest.mark.parametrize("sampler", DETERMINISTIC.values(), ids=DETERMINISTIC)
ancestral = pytest.mark.parametrize("sampler", ANCESTRAL.values(), ids=ANCESTRAL)
churning = pytest.mark.parametrize("sampler", CHURNING.values(), ids=CHURNING)
on_both_paths = pytest.mark.parametrize("schedule", PATHS.values(), ids=PATHS)


class Spy:
    """A denoiser and a receiver of steps that remember every call; the denoiser mixes no images and no pixels."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, float, Tensor]] = []
        self.steps: list[Step] = []

    def denoise(self, xt: Tensor, t: Tensor) -> Tensor:
        self.calls.append((xt, float(t), torch.tanh(xt - t.to(xt.dtype))))
        return self.calls[-1][2]


def run(
    sampler: Sampler,
    x: Tensor,
    steps: int | Tensor = 6,
    schedule: Schedule = SCHEDULE,
    noise: Callable[[], Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, Spy]:
    """Sample with a spy, from time 1 down to 0 unless times are given."""
    spy, times = Spy(), sampling_times(steps) if isinstance(steps, int) else steps
    noise = noise or draws(x.shape, dtype=x.dtype)
    process = ReverseProcess(schedule, times, noise)
    return run_sampler(sampler(x, process, **options), spy.denoise, spy.steps.append), spy


# --- what is called, and how often ---


@every
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_step_is_reported_once_with_its_time_its_state_and_its_prediction(sampler: Sampler, steps: int) -> None:
    x = random(2, 3, 4, 4)
    _, spy = run(sampler, x, steps)
    assert [step for step, *_ in spy.steps] == list(range(steps))
    if sampler not in CHURNING.values():  # which first go back to a noisier time
        assert [step.t for step in spy.steps] == sampling_times(steps)[:-1].tolist()
    assert torch.equal(spy.steps[0].x, x)
    for step in spy.steps:
        assert any(xt is step.x and t == step.t and x0 is step.x0 for xt, t, x0 in spy.calls)


@pytest.mark.parametrize("sampler", [SAMPLERS[name] for name in SAMPLERS if name != "heun"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_step_costs_one_network_call_at_its_state_and_time(sampler: Sampler, steps: int) -> None:
    _, spy = run(sampler, random(2, 3, 4, 4), steps)
    for (xt, t, x0), (_, step_t, step_x, step_x0) in zip(spy.calls, spy.steps, strict=True):
        assert t == step_t
        assert xt is step_x
        assert x0 is step_x0


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_step_of_heun_costs_two_calls_one_at_each_end_and_the_last_step_one(steps: int) -> None:
    _, spy = run(heun, random(2, 3, 4, 4), steps)
    times = sampling_times(steps)[:-1].tolist()
    assert [t for _, t, _ in spy.calls] == [*(t for ends in pairwise(times) for t in ends), times[-1]]
    for (xt, t, x0), (_, step_t, step_x, step_x0) in zip(spy.calls[::2], spy.steps, strict=True):
        assert t == step_t
        assert xt is step_x
        assert x0 is step_x0


@every
@on_both_paths
def test_the_last_prediction_of_the_clean_images_is_the_result(sampler: Sampler, schedule: Schedule) -> None:
    result, spy = run(sampler, random(2, 3, 4, 4), 4, schedule)
    assert torch.equal(result, spy.calls[-1][2])


@pytest.mark.parametrize("sampler", (DETERMINISTIC | ANCESTRAL).values(), ids=DETERMINISTIC | ANCESTRAL)
def test_times_that_end_early_leave_the_noisy_images_of_that_time(sampler: Sampler) -> None:
    x, times = random(2, 3, 4, 4), sampling_times(6)
    early, _ = run(sampler, x, times[:4])
    _, spy = run(sampler, x, times)
    assert torch.equal(early, spy.steps[3][2])


# --- the noise ---


@every
def test_the_noise_handed_in_is_not_overwritten(sampler: Sampler) -> None:
    x = random(2, 3, 4, 4)
    run(sampler, x)
    assert torch.equal(x, random(2, 3, 4, 4))


@deterministic
def test_the_deterministic_samplers_ask_for_no_noise(sampler: Sampler) -> None:
    run(sampler, random(2, 3, 4, 4), noise=never)


@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m_sde, euler_ancestral])
def test_eta_0_asks_for_no_noise(sampler: Sampler) -> None:
    run(sampler, random(2, 3, 4, 4), noise=never, eta=0.0)


def count_draws(sampler: Sampler, times: Tensor) -> int:
    drawn: list[Tensor] = []

    def noise() -> Tensor:
        drawn.append(random(2, 3, 4, 4, seed=len(drawn)))
        return drawn[-1]

    run(sampler, random(2, 3, 4, 4), times, noise=noise)
    return len(drawn)


@ancestral
def test_ancestral_samplers_draw_noise_in_every_step_but_the_last(sampler: Sampler) -> None:
    assert count_draws(sampler, sampling_times(5)) == 4
    assert count_draws(sampler, sampling_times(5)[:-1]) == 4


@churning
def test_churn_draws_noise_in_every_step_that_the_schedule_can_make_noisier(sampler: Sampler) -> None:
    assert count_draws(sampler, sampling_times(5)) == 4
    assert count_draws(sampler, sampling_times(5, start=0.9)) == 5


@pytest.mark.parametrize("sampler", [euler, heun])
@pytest.mark.parametrize(("churn", "factor"), [(0.5, 1.125), (1.0, 1.25), (40.0, 2**0.5)])
def test_churn_raises_sigma_over_alpha_by_its_share_in_a_step(sampler: Sampler, churn: float, factor: float) -> None:
    schedule, times = KarrasSchedule(), sampling_times(4, start=0.8)
    _, spy = run(sampler, random(2, 3, 4, 4), times, schedule, churn=churn)
    first = spy.calls[0][1]
    level, raised = ((-0.5 * log_snr(schedule, torch.tensor(t, dtype=torch.float64))).exp() for t in (0.8, first))
    assert float(raised / level) == pytest.approx(factor, rel=1e-9)


# --- images ---


@every
@on_both_paths
def test_a_image_is_the_same_alone_and_in_a_batch(sampler: Sampler, schedule: Schedule) -> None:
    def noise(pictures: range) -> Callable[[], Tensor]:
        own = [draws(torch.Size((3, 4, 4)), seed=i) for i in pictures]
        return lambda: torch.stack([draw() for draw in own])

    x = random(3, 3, 4, 4)
    together, _ = run(sampler, x, schedule=schedule, noise=noise(range(3)))
    for i in range(3):
        alone, _ = run(sampler, x[i : i + 1], schedule=schedule, noise=noise(range(i, i + 1)))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=0)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_images_keep_their_type(sampler: Sampler, dtype: torch.dtype) -> None:
    result, spy = run(sampler, random(2, 3, 4, 4).to(dtype))
    assert {xt.dtype for xt, _, _ in spy.calls} == {result.dtype} == {dtype}


@every
@pytest.mark.parametrize("schedule", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_start_from_nothing_but_noise_stays_finite(sampler: Sampler, schedule: Schedule, steps: int) -> None:
    assert schedule.alpha_sigma(torch.ones(()).double())[0] == 0
    result, spy = run(sampler, random(2, 3, 4, 4), steps, schedule)
    assert all(x.isfinite().all() and x.abs().max() < 20 for _, _, x, _ in spy.steps)
    assert result.abs().max() <= 1


@deterministic
@pytest.mark.parametrize("schedule", ENDLESS.values(), ids=ENDLESS)
def test_the_first_step_from_nothing_but_noise_keeps_the_noise_and_adds_the_prediction(
    sampler: Sampler, schedule: Schedule
) -> None:
    x = random(2, 3, 4, 4).double()
    _, spy = run(sampler, x, 4, schedule)
    alpha, sigma = schedule.alpha_sigma(torch.tensor(0.75).double())
    torch.testing.assert_close(spy.steps[1][2], alpha * spy.calls[0][2] + sigma * x, atol=1e-12, rtol=0)


@every
@on_both_paths
def test_a_time_that_comes_twice_does_no_harm(sampler: Sampler, schedule: Schedule) -> None:
    times = torch.tensor([0.9, 0.9, 0.6, 0.6, 0.6, 0.3, 0.2, 0.1, 0.1, 0], dtype=torch.float64)
    _, spy = run(sampler, random(2, 3, 4, 4), times, schedule)
    assert all(x.isfinite().all() and x.abs().max() < 20 for _, _, x, _ in spy.steps)


# --- what is the same by another name ---


def assert_same(one: Sampler, other: Sampler, schedule: Schedule) -> None:
    x = random(2, 3, 4, 4).double()
    for times in (sampling_times(7), torch.tensor([1, 0.9, 0.85, 0.5, 0.3, 0.1]).double()):
        ours, _ = run(one, x, times, schedule)
        theirs, _ = run(other, x, times, schedule)
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@on_both_paths
def test_euler_without_churn_is_ddim_in_other_coordinates(schedule: Schedule) -> None:
    assert_same(euler, ddim, schedule)


@on_both_paths
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0, 1.5, 50.0])
def test_ancestral_euler_is_ddim_with_the_same_eta(schedule: Schedule, eta: float) -> None:
    assert_same(lambda *run: euler_ancestral(*run, eta=eta), lambda *run: ddim(*run, eta=eta), schedule)


@on_both_paths
def test_ddim_with_eta_1_is_ddpm(schedule: Schedule) -> None:
    assert_same(lambda *run: ddim(*run, eta=1.0), ddpm, schedule)


@on_both_paths
def test_the_sde_solver_without_noise_is_the_ode_solver(schedule: Schedule) -> None:
    assert_same(lambda *run: dpmpp_2m_sde(*run, eta=0.0), dpmpp_2m, schedule)
