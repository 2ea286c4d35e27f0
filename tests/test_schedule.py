"""The contract of captionless.schedule: how much picture and how much noise there is at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captionless.errors import CaptionlessError
from captionless.schedule import CosineSchedule, add_noise, log_snr, sampling_times
from tiny import random, uniform

SCHEDULE = CosineSchedule()


def at(t: float, schedule: CosineSchedule = SCHEDULE) -> tuple[float, float]:
    alpha, sigma = schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(sigma)


# --- the cosine schedule ---


@given(
    t=st.floats(0, 1),
    log_snr_max=st.floats(0.5, 20),
    log_snr_min=st.floats(-20, 0),
)
def test_variance_is_preserved_at_every_time(t: float, log_snr_max: float, log_snr_min: float) -> None:
    alpha, sigma = at(t, CosineSchedule(log_snr_max, log_snr_min))
    assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-12)


def test_the_picture_fades_and_the_noise_rises_strictly() -> None:
    alpha, sigma = SCHEDULE.alpha_sigma(torch.linspace(0, 1, 2001, dtype=torch.float64))
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    assert (log_snr(SCHEDULE, torch.linspace(0, 1, 2001, dtype=torch.float64)).diff() < 0).all()


@pytest.mark.parametrize(("log_snr_max", "log_snr_min"), [(13.0, -13.0), (20.0, -9.0), (2.0, 1.0)])
def test_the_ends_lie_at_the_given_log_snr(log_snr_max: float, log_snr_min: float) -> None:
    ends = log_snr(CosineSchedule(log_snr_max, log_snr_min), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([log_snr_max, log_snr_min], abs=1e-9)


def test_neither_end_is_without_picture_or_without_noise() -> None:
    """A solver divides by both."""
    for t in (0.0, 1.0):
        alpha, sigma = SCHEDULE.alpha_sigma(torch.tensor(t, dtype=torch.float32))
        assert alpha > 1e-3
        assert sigma > 1e-3


def test_it_has_the_shape_of_nichol_and_dhariwal_equation_17() -> None:
    def f(t: torch.Tensor) -> torch.Tensor:
        return torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    t = torch.linspace(0.05, 0.95, 91, dtype=torch.float64)
    alpha_bar = f(t) / f(torch.zeros(()))
    alpha, _ = SCHEDULE.alpha_sigma(t)
    assert (alpha**2 - alpha_bar).abs().max() < 0.013


def test_picture_and_noise_weigh_alike_halfway() -> None:
    alpha, sigma = at(0.5)
    assert alpha == pytest.approx(sigma, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_answers_in_the_shape_and_type_of_the_times(dtype: torch.dtype) -> None:
    for value in SCHEDULE.alpha_sigma(torch.zeros(5, dtype=dtype)):
        assert value.shape == (5,)
        assert value.dtype == dtype


@pytest.mark.parametrize(("log_snr_max", "log_snr_min"), [(1.0, 1.0), (-2.0, 2.0), (math.nan, -13.0)])
def test_an_empty_range_of_noise_levels_is_refused(log_snr_max: float, log_snr_min: float) -> None:
    with pytest.raises(CaptionlessError, match="must exceed"):
        CosineSchedule(log_snr_max, log_snr_min)


# --- the forward process ---


def test_noisy_pictures_have_mean_and_variance_of_ddpm_equation_4() -> None:
    x0, t = torch.tensor([-1.0, 0.3, 1.0]).reshape(1, 3, 1, 1), torch.tensor([0.4])
    many = x0.expand(20_000, 3, 1, 1)
    xt = add_noise(SCHEDULE, many, random(*many.shape), t.expand(20_000)).double()
    alpha_bar = at(0.4)[0] ** 2
    torch.testing.assert_close(xt.mean(0), alpha_bar**0.5 * x0[0].double(), atol=0.02, rtol=0)
    torch.testing.assert_close(xt.var(0), torch.full((3, 1, 1), 1 - alpha_bar).double(), atol=0.02, rtol=0)


def test_every_picture_has_its_own_time() -> None:
    x0, eps, t = uniform(3, 2, 4, 4), random(3, 2, 4, 4), torch.tensor([0.0, 0.5, 1.0])
    xt = add_noise(SCHEDULE, x0, eps, t)
    for i in range(3):
        torch.testing.assert_close(xt[i : i + 1], add_noise(SCHEDULE, x0[i : i + 1], eps[i : i + 1], t[i : i + 1]))
    torch.testing.assert_close(xt[0], x0[0], atol=0.01, rtol=0)
    torch.testing.assert_close(xt[2], eps[2], atol=0.01, rtol=0)


def test_noisy_pictures_keep_the_pictures_number_format() -> None:
    x0 = torch.zeros(2, 3, 4, 4, dtype=torch.float32)
    assert add_noise(SCHEDULE, x0, x0, torch.zeros(2, dtype=torch.float64)).dtype == torch.float32


# --- the times a sampler visits ---


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 150])
def test_sampling_goes_evenly_from_exactly_1_to_exactly_0(steps: int) -> None:
    times = sampling_times(steps)
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (1, 0)
    torch.testing.assert_close(times.diff(), torch.full((steps,), -1 / steps, dtype=torch.float64))


@pytest.mark.parametrize("steps", [0, -3])
def test_fewer_than_one_step_is_refused(steps: int) -> None:
    with pytest.raises(CaptionlessError, match=str(steps)):
        sampling_times(steps)
