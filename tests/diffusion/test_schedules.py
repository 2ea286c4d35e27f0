"""The contract of captionless.diffusion.schedules: how much image and how much noise there is at a time."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captionless.diffusion.schedules import (
    LOG_SNR_LIMIT,
    AnySchedule,
    CosineSchedule,
    FlowSchedule,
    KarrasSchedule,
    LinearSchedule,
    Schedule,
    SigmoidSchedule,
    add_noise,
    karras_times,
    log_snr,
    sampling_times,
    time_at,
)
from captionless.errors import CaptionlessError
from schedule_cases import ANY, EVERY, PRESERVING
from tiny import random, uniform

SCHEDULE = CosineSchedule()
every_schedule = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def at(t: float, schedule: Schedule = SCHEDULE) -> tuple[float, float]:
    alpha, sigma = schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(sigma)


def steps_of(schedule: LinearSchedule) -> tuple[Tensor, Tensor]:
    """``alpha`` and ``sigma`` at the times of the T steps."""
    return schedule.alpha_sigma(torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps)


# --- what holds for every schedule ---


@given(schedule=ANY, points=st.integers(2, 65))
def test_the_image_fades_and_the_noise_rises_strictly(schedule: AnySchedule, points: int) -> None:
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    assert (log_snr(schedule, t).diff() < 0).all()


@given(schedule=ANY, t=st.floats(0, 1))
def test_there_is_no_less_than_nothing_and_no_more_than_all_of_either(schedule: AnySchedule, t: float) -> None:
    for dtype in (torch.float32, torch.float64):
        for value in schedule.alpha_sigma(torch.tensor(t, dtype=dtype)):
            assert 0 <= value <= 1


@given(schedule=ANY.filter(lambda schedule: not isinstance(schedule, FlowSchedule)), t=st.floats(0, 1))
def test_variance_is_preserved_at_every_time(schedule: AnySchedule, t: float) -> None:
    alpha, sigma = at(t, schedule)
    assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-12)


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_it_answers_in_the_shape_and_type_of_the_times(
    schedule: AnySchedule, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    for value in schedule.alpha_sigma(torch.full(shape, 0.3, dtype=dtype)):
        assert value.shape == shape
        assert value.dtype == dtype


@every_schedule
def test_float32_loses_no_more_than_its_own_rounding(schedule: AnySchedule) -> None:
    t = torch.linspace(0, 1, 1001)
    for low, high in zip(schedule.alpha_sigma(t), schedule.alpha_sigma(t.double()), strict=True):
        torch.testing.assert_close(low.double(), high, atol=2e-7, rtol=0)


@pytest.mark.parametrize("name", ["cosine", "sigmoid", "sigmoid-late", "flow"])
def test_ends_that_would_run_to_infinity_are_cut_at_the_same_log_snr(name: str) -> None:
    """A solver divides by both alpha and sigma."""
    ends = log_snr(EVERY[name], double(0, 1))
    assert ends.tolist() == pytest.approx([LOG_SNR_LIMIT, -LOG_SNR_LIMIT], abs=1e-6)


# --- the cosine schedule ---


@pytest.mark.parametrize(("log_snr_max", "log_snr_min"), [(13.0, -13.0), (20.0, -9.0), (2.0, 1.0)])
def test_the_ends_of_the_cosine_lie_at_the_given_log_snr(log_snr_max: float, log_snr_min: float) -> None:
    ends = log_snr(CosineSchedule(log_snr_max, log_snr_min), double(0, 1))
    assert ends.tolist() == pytest.approx([log_snr_max, log_snr_min], abs=1e-9)


def test_it_has_the_shape_of_nichol_and_dhariwal_equation_17() -> None:
    def f(t: torch.Tensor) -> torch.Tensor:
        return torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    t = torch.linspace(0.05, 0.95, 91, dtype=torch.float64)
    alpha_bar = f(t) / f(torch.zeros(()))
    alpha, _ = SCHEDULE.alpha_sigma(t)
    assert (alpha**2 - alpha_bar).abs().max() < 0.013


def test_it_is_about_the_cosine_schedule_of_diffusers() -> None:
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    alpha, _ = SCHEDULE.alpha_sigma(torch.arange(1, 1001) / 1000)
    assert (alpha**2 - theirs).abs().max() < 0.013


def test_image_and_noise_weigh_alike_halfway() -> None:
    alpha, sigma = at(0.5)
    assert alpha == pytest.approx(sigma, abs=1e-12)


# --- linear betas, in steps ---


@pytest.mark.parametrize("T", [2, 150, 1000])
def test_linear_betas_are_the_chain_of_ddpm_equation_2(T: int) -> None:
    """Each step keeps ``sqrt(1 - beta)`` of the image and adds noise of variance beta; eq. 4 is what comes of it."""
    mean, variance, expected = 1.0, 0.0, []
    for k in range(T):
        beta = 1e-4 + (0.02 - 1e-4) * k / (T - 1)
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        expected.append((mean, math.sqrt(variance)))
    torch.testing.assert_close(torch.stack(steps_of(LinearSchedule(T)), 1), double(*sum(expected, ())).reshape(T, 2))


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("T", [2, 150, 1000])
def test_the_steps_are_those_of_diffusers(T: int, zero_terminal_snr: bool) -> None:
    theirs = DDPMScheduler(
        num_train_timesteps=T,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        rescale_betas_zero_snr=zero_terminal_snr,
    )
    alpha, _ = steps_of(LinearSchedule(T, zero_terminal_snr=zero_terminal_snr))
    torch.testing.assert_close(alpha**2, theirs.alphas_cumprod.double(), atol=2e-6, rtol=0)


def test_other_betas_may_be_given() -> None:
    alpha, _ = steps_of(LinearSchedule(3, 0.1, 0.3))
    assert (alpha**2).tolist() == pytest.approx([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7])


@every_schedule
def test_only_linear_betas_begin_without_any_noise(schedule: AnySchedule) -> None:
    assert (at(0.0, schedule) == (1, 0)) == isinstance(schedule, LinearSchedule)


def test_a_short_chain_leaves_much_of_the_image_unless_it_is_rescaled() -> None:
    assert at(1.0, LinearSchedule(150))[0] ** 2 == pytest.approx(0.219, abs=1e-3)
    rescaled = LinearSchedule(150, zero_terminal_snr=True)
    assert at(1.0, rescaled) == (0, 1)
    assert at(1 / 150, rescaled)[0] == pytest.approx(math.sqrt(1 - 1e-4))  # the first step is as it was


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_between_two_steps_alpha_is_on_the_line_between_them(zero_terminal_snr: bool) -> None:
    schedule = LinearSchedule(10, zero_terminal_snr=zero_terminal_snr)
    for k in (0, 4, 9):
        before, after = at(k / 10, schedule)[0], at((k + 1) / 10, schedule)[0]
        assert at((k + 0.25) / 10, schedule)[0] == pytest.approx(0.75 * before + 0.25 * after)


# --- the sigmoid, the levels of EDM, the straight line ---


@pytest.mark.parametrize(("start", "end", "temperature"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 0.2)])
def test_the_sigmoid_follows_the_formula_of_its_paper(start: float, end: float, temperature: float) -> None:
    """``sigmoid_schedule`` of arXiv:2301.10972, section 2.1, between the two of its times at which ours is cut."""

    def gamma(t: Tensor) -> Tensor:
        first, last = torch.sigmoid(double(start, end) / temperature)
        return (last - torch.sigmoid((t * (end - start) + start) / temperature)) / (last - first)

    t = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    kept = t[gamma(t).logit().abs() <= LOG_SNR_LIMIT]
    alpha, _ = SigmoidSchedule(start / temperature, end / temperature).alpha_sigma(t)
    torch.testing.assert_close(alpha**2, gamma(kept[0] + t * (kept[-1] - kept[0])), atol=2e-4, rtol=0)


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_the_levels_are_those_of_edm_in_diffusers(rho: float) -> None:
    theirs = EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, rho=rho)
    theirs.set_timesteps(30)
    alpha, sigma = KarrasSchedule(0.01, 50.0, rho).alpha_sigma(torch.linspace(1, 0, 30, dtype=torch.float64))
    torch.testing.assert_close((sigma / alpha).float(), theirs.sigmas[:-1])


def test_the_levels_follow_edm_equation_5() -> None:
    N = 18
    alpha, sigma = KarrasSchedule().alpha_sigma(torch.linspace(1, 0, N, dtype=torch.float64))
    for i in range(N):
        level = (80 ** (1 / 7) + i / (N - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert sigma[i] / alpha[i] == pytest.approx(level)


def test_the_flow_is_a_straight_line_whose_weights_add_up_to_1() -> None:
    alpha, sigma = FlowSchedule().alpha_sigma(torch.linspace(0, 1, 11, dtype=torch.float64))
    torch.testing.assert_close(alpha + sigma, torch.ones(11, dtype=torch.float64))
    torch.testing.assert_close(sigma.diff(), sigma.diff()[:1].expand(10))


# --- schedules that are none ---

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineSchedule(1.0, 1.0), "(1.0) must be greater than `log_snr_min` (1.0)"),
        (lambda: CosineSchedule(-2.0, 2.0), "must be greater than"),
        (lambda: CosineSchedule(NAN, -13.0), "`log_snr_max` (nan) must be greater"),
        (lambda: CosineSchedule(40.0, -40.0), "be from -20 to 20"),
        (lambda: CosineSchedule(13.0, -INF), "be from -20 to 20"),
        (lambda: SigmoidSchedule(3.0, -3.0), "not 3.0 and -3.0. Try -3 and 3."),
        (lambda: SigmoidSchedule(1.0, 1.05), "`end` from start + 0.1"),
        (lambda: SigmoidSchedule(25.0, 30.0), "`start` of the sigmoid schedule must be from -30 to 10"),
        (lambda: SigmoidSchedule(-3.0, INF), "to 30, not -3.0 and inf"),
        (lambda: SigmoidSchedule(NAN, 3.0), "not nan and 3.0"),
        (lambda: KarrasSchedule(2.0, 1.0), "sigma_min < sigma_max"),
        (lambda: KarrasSchedule(0.0), "not 0.0, 80.0 and 7.0. Omit all three"),
        (lambda: KarrasSchedule(sigma_max=INF), "not 0.002, inf"),
        (lambda: KarrasSchedule(sigma_max=NAN), "not 0.002, nan"),
        (lambda: KarrasSchedule(rho=0.01), "rho from 1 to 100"),
        (lambda: KarrasSchedule(rho=INF), "rho from 1 to 100"),
        (lambda: LinearSchedule(1), "needs 2 to 10,000 steps"),
        (lambda: LinearSchedule(10**12), "needs 2 to 10,000 steps"),
        (lambda: LinearSchedule(150, 0.0), "not 150, 0.0 and 0.02. Try 1000, 1e-4 and 0.02."),
        (lambda: LinearSchedule(150, 0.02, 1e-4), "beta_start <= beta_end"),
        (lambda: LinearSchedule(150, 1e-4, 1.0), "beta_end < 1"),
        (lambda: LinearSchedule(150, 1e-4, NAN), "beta_end < 1"),
        (lambda: LinearSchedule(5000, 1e-4, 0.9), "a strictly decreasing alpha"),
    ],
)
def test_noise_levels_that_cannot_be_are_refused_with_those_that_can(make: Callable[[], object], message: str) -> None:
    with pytest.raises(CaptionlessError, match=re.escape(message)):
        make()


# --- from the noise level to the time ---


@settings(max_examples=30)
@given(schedule=ANY)
def test_the_time_is_found_from_the_noise_level(schedule: AnySchedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(time_at(schedule, log_snr(schedule, t)), t, atol=1e-7, rtol=0)


@every_schedule
def test_the_noise_level_of_the_time_found_is_the_one_asked_for_or_the_nearest_there_is(schedule: AnySchedule) -> None:
    values = torch.linspace(-20, 20, 401, dtype=torch.float64)
    lowest, highest = log_snr(schedule, double(1, 0)).tolist()
    found = log_snr(schedule, time_at(schedule, values))
    torch.testing.assert_close(found, values.clamp(lowest, highest), atol=1e-6, rtol=0)


@every_schedule
@pytest.mark.parametrize(("beyond", "end"), [(1e3, 0), (math.inf, 0), (-1e3, 1), (-math.inf, 1)])
def test_levels_beyond_a_schedule_get_its_nearer_end(schedule: AnySchedule, beyond: float, end: int) -> None:
    assert time_at(schedule, double(beyond)) == pytest.approx(end, abs=1e-8)


def test_times_are_found_in_the_shape_of_the_levels_and_in_float64() -> None:
    times = time_at(SCHEDULE, torch.tensor([[0.0, 2.0, -2.0], [1.0, 30.0, -30.0]]))
    assert times.dtype == torch.float64
    assert times.shape == (2, 3)
    assert times[0, 0] == pytest.approx(0.5)


# --- the forward process ---


@every_schedule
def test_noisy_images_have_mean_and_variance_of_ddpm_equation_4(schedule: AnySchedule) -> None:
    x0, t = torch.tensor([-1.0, 0.3, 1.0]).reshape(1, 3, 1, 1), torch.tensor([0.4])
    many = x0.expand(20_000, 3, 1, 1)
    xt = add_noise(schedule, many, random(*many.shape), t.expand(20_000)).double()
    alpha, sigma = at(0.4, schedule)
    torch.testing.assert_close(xt.mean(0), alpha * x0[0].double(), atol=0.02, rtol=0)
    torch.testing.assert_close(xt.var(0), torch.full((3, 1, 1), sigma**2).double(), atol=0.02, rtol=0)


@pytest.mark.parametrize("schedule", PRESERVING.values(), ids=PRESERVING)
def test_noise_of_variance_1_stays_so(schedule: AnySchedule) -> None:
    """``Var[xt] = 1`` for images of variance 1: what a network sees is as large at all times."""
    for t in (0.0, 0.3, 1.0):
        xt = add_noise(schedule, random(4000, 1, 1, 1), random(4000, 1, 1, 1, seed=1), torch.full((4000,), t))
        assert xt.var() == pytest.approx(1, abs=0.08)


def test_every_image_has_its_own_time() -> None:
    x0, eps, t = uniform(3, 2, 4, 4), random(3, 2, 4, 4), torch.tensor([0.0, 0.5, 1.0])
    xt = add_noise(SCHEDULE, x0, eps, t)
    for i in range(3):
        torch.testing.assert_close(xt[i : i + 1], add_noise(SCHEDULE, x0[i : i + 1], eps[i : i + 1], t[i : i + 1]))
    torch.testing.assert_close(xt[0], x0[0], atol=0.01, rtol=0)
    torch.testing.assert_close(xt[2], eps[2], atol=0.01, rtol=0)


def test_noisy_images_keep_the_images_number_format() -> None:
    x0 = torch.zeros(2, 3, 4, 4, dtype=torch.float32)
    assert add_noise(SCHEDULE, x0, x0, torch.zeros(2, dtype=torch.float64)).dtype == torch.float32


# --- the times a sampler visits ---


@pytest.mark.parametrize("start", [1.0, 0.6, 0.01])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 150])
def test_sampling_goes_evenly_from_exactly_its_start_to_exactly_0(steps: int, start: float) -> None:
    times = sampling_times(steps, start)
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (start, 0)
    torch.testing.assert_close(times.diff(), torch.full((steps,), -start / steps, dtype=torch.float64))


def test_sampling_starts_from_pure_noise_unless_told_otherwise() -> None:
    assert sampling_times(4).tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize("name", ["cosine", "linear-zero", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 18])
def test_karras_times_have_the_levels_of_edm_in_diffusers_whatever_the_schedule(name: str, steps: int) -> None:
    theirs = EDMEulerScheduler()
    theirs.set_timesteps(steps)
    times = karras_times(EVERY[name], steps)
    alpha, sigma = EVERY[name].alpha_sigma(times)
    torch.testing.assert_close((sigma / alpha)[:-1].float(), theirs.sigmas[:-1])
    assert times[-1] == theirs.sigmas[-1] == 0


@settings(max_examples=20)
@given(schedule=ANY, steps=st.integers(1, 30), start=st.floats(1e-3, 1))
def test_karras_times_fall_strictly_from_their_start_to_0(schedule: AnySchedule, steps: int, start: float) -> None:
    """Also where the schedule ends before EDM's levels do, at either end: a solver divides by each step."""
    times = karras_times(schedule, steps, start)
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    highest = time_at(schedule, double(-2 * math.log(80)))
    assert times[0] == pytest.approx(min(start, float(highest)), abs=1e-6)


@pytest.mark.parametrize("start", [1e-4, 1e-9])
def test_below_the_lowest_level_of_edm_karras_times_are_even(start: float) -> None:
    assert torch.equal(karras_times(SCHEDULE, 5, start), sampling_times(5, start))


@pytest.mark.parametrize("k", [2, 4])
def test_a_shift_makes_a_large_image_as_noisy_as_its_average_over_patches_is_without(k: int) -> None:
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    alpha, sigma = CosineSchedule(shift=-2 * math.log(k)).alpha_sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    # The mean of k x k independent noises is 1 / k as strong.
    small_alpha, small_sigma = CosineSchedule().alpha_sigma(t)
    torch.testing.assert_close((sigma / k) / alpha, small_sigma / small_alpha)


def test_a_schedule_is_not_shifted_out_of_sight() -> None:
    with pytest.raises(CaptionlessError, match="must be from -6 to 6"):
        CosineSchedule(shift=-7)
