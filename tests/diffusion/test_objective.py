"""The contract of captionless.diffusion.objective: what the denoiser learns, and what is done to the condition."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from captionless.config.training import PREDICTIONS, WEIGHTINGS
from captionless.diffusion.objective import (
    LEVEL_MEAN,
    LEVEL_STD,
    MIN_SNR,
    denoising_loss,
    drop_condition,
    mask_condition,
    min_snr_weight,
    noise_condition,
    stratified_times,
    target,
    to_eps,
    to_x0,
    training_times,
)
from captionless.diffusion.schedules import AnySchedule, CosineSchedule, FlowSchedule, LinearSchedule, add_noise
from captionless.errors import CaptionlessError
from schedule_cases import ANY, EVERY
from tiny import random, uniform, unit_vectors

SCHEDULE = CosineSchedule()
every_kind = pytest.mark.parametrize("kind", PREDICTIONS)
every_schedule = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# --- the image, the noise, and what is predicted of them ---


@every_kind
@settings(max_examples=40)
@given(schedule=ANY, t=st.floats(0, 1), x0=st.floats(-1, 1), eps=st.floats(-5, 5))
def test_the_conversions_invert_the_target(kind: str, schedule: AnySchedule, t: float, x0: float, eps: float) -> None:
    alpha, sigma = (float(value) for value in schedule.alpha_sigma(number(t)))
    clean, noise = number(x0), number(eps)
    xt, value = alpha * clean + sigma * noise, target(kind, clean, noise, alpha, sigma)
    if kind != "eps" or alpha > 1e-4:  # xt without picture leaves none to find
        torch.testing.assert_close(to_x0(kind, xt, value, alpha, sigma), clean, atol=1e-10, rtol=0)
    if kind != "x0" or sigma > 1e-4:
        torch.testing.assert_close(to_eps(kind, xt, value, alpha, sigma), noise, atol=1e-10, rtol=0)


@every_kind
@settings(max_examples=40)
@given(schedule=ANY, t=st.floats(0, 1), xt=st.floats(-5, 5), value=st.floats(-5, 5))
def test_the_target_inverts_the_conversions(
    kind: str, schedule: AnySchedule, t: float, xt: float, value: float
) -> None:
    alpha, sigma = (float(level) for level in schedule.alpha_sigma(number(t)))
    assume((kind != "eps" or alpha > 1e-4) and (kind != "x0" or sigma > 1e-4))
    noisy, predicted = number(xt), number(value)
    x0, eps = (to(kind, noisy, predicted, alpha, sigma) for to in (to_x0, to_eps))
    torch.testing.assert_close(target(kind, x0, eps, alpha, sigma), predicted, atol=1e-9, rtol=0)
    torch.testing.assert_close(alpha * x0 + sigma * eps, noisy, atol=1e-9, rtol=0)


@every_kind
@every_schedule
def test_each_image_of_a_batch_has_its_own_level(kind: str, schedule: AnySchedule) -> None:
    x0, eps, t = uniform(5, 3, 2, 2).double(), random(5, 3, 2, 2).double(), torch.linspace(0.1, 0.9, 5).double()
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    xt, value = add_noise(schedule, x0, eps, t), target(kind, x0, eps, alpha, sigma)
    torch.testing.assert_close(to_x0(kind, xt, value, alpha, sigma), x0)
    torch.testing.assert_close(to_eps(kind, xt, value, alpha, sigma), eps)


@pytest.mark.parametrize("kind", ["x0", "v", "flow"])
def test_pure_noise_does_not_keep_a_prediction_from_telling_the_image(kind: str) -> None:
    x0, eps = uniform(4), random(4)
    torch.testing.assert_close(to_x0(kind, eps, target(kind, x0, eps, 0.0, 1.0), 0.0, 1.0), x0)


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_a_clean_image_does_not_keep_a_prediction_from_telling_the_noise(kind: str) -> None:
    x0, eps = uniform(4), random(4)
    torch.testing.assert_close(to_eps(kind, x0, target(kind, x0, eps, 1.0, 0.0), 1.0, 0.0), eps)


def test_v_is_the_velocity_on_the_circle_from_image_to_noise() -> None:
    """With ``alpha = cos a`` and ``sigma = sin a``, v is ``d xt / d a`` (arXiv:2202.00512, app. D)."""
    x0, eps, angle, step = uniform(5).double(), random(5).double(), 0.7, 1e-6

    def xt(a: float) -> Tensor:
        return math.cos(a) * x0 + math.sin(a) * eps

    velocity = (xt(angle + step) - xt(angle - step)) / (2 * step)
    torch.testing.assert_close(target("v", x0, eps, math.cos(angle), math.sin(angle)), velocity, atol=1e-8, rtol=0)


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_the_flow_is_the_velocity_on_the_straight_line_from_image_to_noise(t: float) -> None:
    """``d xt / d sigma`` of the flow path, at all times the same (arXiv:2209.03003, eq. 1)."""
    x0, eps, schedule, step = uniform(5, 1, 1, 1).double(), random(5, 1, 1, 1).double(), FlowSchedule(), 1e-4

    def sigma(t: float) -> Tensor:
        return schedule.alpha_sigma(number(t))[1]

    def xt(t: float) -> Tensor:
        return add_noise(schedule, x0, eps, torch.full((5,), t, dtype=torch.float64))

    velocity = (xt(t + step) - xt(t - step)) / (sigma(t + step) - sigma(t - step))
    alpha, now = schedule.alpha_sigma(number(t))
    torch.testing.assert_close(target("flow", x0, eps, alpha, now), velocity, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: target(kind, random(4), random(4), 0.6, 0.8),
        lambda kind: to_x0(kind, random(4), random(4), 0.6, 0.8),
        lambda kind: to_eps(kind, random(4), random(4), 0.6, 0.8),
        lambda kind: min_snr_weight(kind, number(0.6), number(0.8)),
        lambda kind: denoising_loss(lambda xt, t, c: xt, SCHEDULE, *batch(), prediction=kind),
    ],
    ids=["target", "to_x0", "to_eps", "min_snr_weight", "denoising_loss"],
)
def test_an_unknown_prediction_is_refused_with_those_there_are(use: Callable[[str], object]) -> None:
    with pytest.raises(CaptionlessError, match="`prediction` must be one of v, eps, x0, flow, not 'epsilon'"):
        use("epsilon")


# --- the loss ---


def batch(n: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return uniform(n, 3, 4, 4) * 2 - 1, unit_vectors(n), uniform(n, seed=1), random(n, 3, 4, 4, seed=2)


@every_kind
@every_schedule
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_of_the_perfect_network_is_zero(kind: str, schedule: AnySchedule, weighting: str) -> None:
    x0, condition, t, eps = batch()

    def perfect(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Knows the images, and finds the noise in what it is shown."""
        alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
        found = (xt - alpha * x0) / sigma
        return {"eps": found, "x0": x0, "v": alpha * found - sigma * x0, "flow": found - x0}[kind]

    assert denoising_loss(perfect, schedule, x0, condition, t, eps, kind, weighting) == pytest.approx(0, abs=1e-8)


@every_kind
@every_schedule
def test_the_loss_is_the_mean_squared_error_of_the_prediction(kind: str, schedule: AnySchedule) -> None:
    x0, condition, t, eps = batch()
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
    wanted = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "flow": eps - x0}[kind]
    loss = denoising_loss(lambda xt, t, c: torch.full_like(xt, 0.25), schedule, x0, condition, t, eps, kind)
    torch.testing.assert_close(loss, (wanted - 0.25).square().mean())


def test_v_is_predicted_and_every_error_counts_alike_unless_told_otherwise() -> None:
    given_ = (lambda xt, t, c: 0.3 * xt, SCHEDULE, *batch())
    assert torch.equal(denoising_loss(*given_), denoising_loss(*given_, prediction="v", weighting="uniform"))


def test_the_network_is_shown_the_noisy_image_its_time_and_its_condition() -> None:
    x0, condition, t, eps = batch()
    seen: list[Tensor] = []

    def network(*inputs: Tensor) -> Tensor:
        seen.extend(inputs)
        return inputs[0]

    denoising_loss(network, SCHEDULE, x0, condition, t, eps)
    for given_, expected in zip(seen, (add_noise(SCHEDULE, x0, eps, t), t, condition), strict=True):
        torch.testing.assert_close(given_, expected)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_is_computed_in_float32_when_the_network_answers_in_bf16(weighting: str) -> None:
    x0, condition, t, eps = batch()
    loss = denoising_loss(lambda xt, t, c: xt.bfloat16(), SCHEDULE, x0, condition, t, eps, weighting=weighting)
    assert loss.dtype == torch.float32


def test_an_unknown_weighting_is_refused_with_those_there_are() -> None:
    with pytest.raises(CaptionlessError, match="`weighting` must be one of uniform, min-snr, log-"):
        denoising_loss(lambda xt, t, c: xt, SCHEDULE, *batch(), weighting="snr")


# --- min-SNR weighting ---


@every_kind
@settings(max_examples=40)
@given(schedule=ANY, t=st.floats(0, 1), error=st.floats(0.1, 1))
def test_an_error_weighs_as_much_as_the_error_of_the_image_it_leads_to_times_min_snr(
    kind: str, schedule: AnySchedule, t: float, error: float
) -> None:
    alpha, sigma = schedule.alpha_sigma(number(t))
    assume(alpha > 1e-4 and sigma > 1e-4)
    xt, value = number(0.7), number(-0.4)
    off = to_x0(kind, xt, value + error, alpha, sigma) - to_x0(kind, xt, value, alpha, sigma)
    expected = min(float((alpha / sigma) ** 2), MIN_SNR) * off**2
    torch.testing.assert_close(min_snr_weight(kind, alpha, sigma) * error**2, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("x0", [1 / 4, 5, 5]),
        ("eps", [1, 1, 5 / 100]),
        ("v", [1 / 5, 5 / 6, 5 / 101]),
        ("flow", [1 / 9, 0.4775, 5 / 121]),
    ],
)
def test_the_weights_at_an_snr_of_a_quarter_5_and_100_are_those_of_the_paper(kind: str, weights: list[float]) -> None:
    """``min(SNR, 5)`` for x0, over ``SNR`` for eps and ``SNR + 1`` for v (arXiv:2303.09556, section 3.4)."""
    snr = torch.tensor([0.25, 5, 100], dtype=torch.float64)
    found = min_snr_weight(kind, (snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt())
    assert found.tolist() == pytest.approx(weights, rel=1e-3)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_finite_from_pure_noise_to_the_clean_image(kind: str, dtype: torch.dtype) -> None:
    sigma = torch.tensor([0, 1e-30, 1e-12, 1e-6, 0.5, 1, 1, 1, 1], dtype=dtype)
    weights = min_snr_weight(kind, sigma.flip(0), sigma)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert (weights <= MIN_SNR).all()
    assert weights[-1] == pytest.approx(1 if kind == "eps" else 0)


@every_kind
def test_the_min_snr_loss_weighs_each_image_by_its_own_level(kind: str) -> None:
    x0, condition, t, eps = batch()
    alpha, sigma = SCHEDULE.alpha_sigma(t)
    loss = partial(denoising_loss, lambda xt, t, c: 0.3 * xt, SCHEDULE, prediction=kind)
    each = [loss(*(part[i : i + 1] for part in (x0, condition, t, eps))) for i in range(len(t))]
    expected = (torch.stack(each) * min_snr_weight(kind, alpha, sigma)).mean()
    torch.testing.assert_close(loss(x0, condition, t, eps, weighting="min-snr"), expected)


@every_kind
def test_the_gradient_is_finite_where_the_schedule_ends_in_pure_noise_or_begins_without_any(kind: str) -> None:
    x0, condition, _, eps = batch(2)
    scale = torch.ones(1, requires_grad=True)
    schedule, ends = LinearSchedule(zero_terminal_snr=True), torch.tensor([0.0, 1.0])
    denoising_loss(lambda xt, t, c: scale * xt, schedule, x0, condition, ends, eps, kind, "min-snr").backward()
    assert scale.grad is not None
    assert scale.grad.isfinite().all()


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


@pytest.mark.parametrize("weighting", ["uniform", "min-snr"])
def test_times_are_uniform_where_the_weighting_is_in_the_loss(weighting: str) -> None:
    chances = uniform(50)
    assert torch.equal(training_times(SCHEDULE, chances, weighting), stratified_times(chances))


@pytest.mark.parametrize("name", ["cosine", "sigmoid", "karras", "flow", "linear-zero"])
def test_log_normal_times_have_the_noise_levels_of_edm_whatever_the_schedule(name: str) -> None:
    """``ln(sigma)`` of ``N(-1.2, 1.2**2)`` (arXiv:2206.00364, table 1), with ``sigma / alpha`` for sigma."""
    alpha, sigma = EVERY[name].alpha_sigma(training_times(EVERY[name], uniform(4000), "log-normal"))
    level = (sigma / alpha).log()
    assert level.mean() == pytest.approx(-1.2, abs=0.01)
    assert level.std() == pytest.approx(1.2, abs=0.01)
    assert ((level - LEVEL_MEAN) / LEVEL_STD < 1).float().mean() == pytest.approx(0.8413, abs=0.002)


@settings(max_examples=30)
@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
def test_log_normal_times_are_spread_as_evenly_as_uniform_ones(n: int, seed: int) -> None:
    """Each n-th of the levels' distribution holds exactly one."""
    alpha, sigma = SCHEDULE.alpha_sigma(training_times(SCHEDULE, uniform(n, seed=seed).double(), "log-normal"))
    share = torch.special.ndtr(((sigma / alpha).log() - LEVEL_MEAN) / LEVEL_STD)
    assert (share * n).floor().int().tolist() == list(range(n))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@every_schedule
def test_times_are_float32_and_within_the_schedule_for_every_chance(schedule: AnySchedule, weighting: str) -> None:
    for chances in (torch.zeros(3), torch.full((3,), 1 - 2**-24), uniform(64)):
        t = training_times(schedule, chances, weighting)
        assert t.dtype == torch.float32
        assert t.shape == chances.shape
        assert ((t >= 0) & (t <= 1)).all()


def test_levels_that_a_short_chain_does_not_have_are_trained_at_its_end() -> None:
    t = training_times(LinearSchedule(150), uniform(4000), "log-normal")
    above = 1 - torch.special.ndtr(torch.tensor((math.log(1.8876) - LEVEL_MEAN) / LEVEL_STD))
    assert (t == 1).float().mean() == pytest.approx(float(above), abs=0.002)


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


# --- the element-wise mask of the courses ---


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_the_mask_drops_the_wanted_share_of_elements_and_leaves_the_others(share: float) -> None:
    condition = unit_vectors(400, 512)
    masked = mask_condition(condition, uniform(400, 512), share)
    dropped = masked != condition
    assert not masked[dropped].any()
    assert dropped.float().mean() == pytest.approx(share, abs=0.005)


def test_the_mask_drops_elements_independently_of_each_other() -> None:
    kept = mask_condition(torch.ones(20_000, 4), uniform(20_000, 4), 0.5)
    assert (kept.T.corrcoef() - torch.eye(4)).abs().max() < 0.03


def test_of_a_one_hot_class_the_mask_drops_all_or_nothing() -> None:
    classes = torch.nn.functional.one_hot(torch.arange(20_000) % 10, 10).float()
    masked = mask_condition(classes, uniform(20_000, 10), 0.1)
    null = (masked == 0).all(1)
    assert torch.equal(masked[~null], classes[~null])
    assert null.float().mean() == pytest.approx(0.1, abs=0.01)


def test_of_a_dense_vector_the_mask_never_drops_all_so_that_the_null_condition_is_not_learned() -> None:
    masked = mask_condition(unit_vectors(2000, 512), uniform(2000, 512), 0.1)
    # Binomial(512, 0.1): 51 elements, with a deviation of 7; all of them once in 10 to the 512 vectors.
    dropped = (masked == 0).sum(1)
    assert dropped.max() < 51 + 8 * 7
    assert dropped.float().mean() == pytest.approx(51.2, abs=1)


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
