"""The contract of diffusion.guidance: guiding away from the unconditional prediction, towards the condition."""

import pytest
import torch
from diffusers import ClassifierFreeGuidance, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captionless.config.training import PREDICTIONS
from captionless.diffusion.guidance import (
    Guidance,
    dynamic_threshold,
    guide,
    guided_denoiser,
    rescale,
)
from captionless.diffusion.guidance import WeightedCondition as Prompt
from captionless.diffusion.objective import to_x0
from captionless.diffusion.schedules import CosineSchedule, time_at
from tiny import random, unit_vectors

SCHEDULE = CosineSchedule()
N = 3
ROSE, TULIP, DAISY = (unit_vectors(N, seed=seed) for seed in range(3))
NULL = torch.zeros(N, 8)
XT = 0.1 * random(N, 3, 4, 4)


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


T = at(0.4)


class Network:
    """Answers something small, not linear in the condition, and notes what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.calls.append((xt, t, condition))
        pattern = torch.linspace(-1, 1, 16).reshape(4, 4)
        return 0.05 * xt + 0.1 * torch.tanh(condition.sum(1))[:, None, None, None] * pattern + 0.02

    @property
    def sizes(self) -> list[int]:
        return [len(xt) for xt, _, _ in self.calls]


class NetworkWithAttention(Network):
    """Takes a fourth argument, to which it answers differently."""

    def __call__(self, xt: Tensor, t: Tensor, condition: Tensor, identity: Tensor | None = None) -> Tensor:
        self.identity = identity
        out = super().__call__(xt, t, condition)
        return out if identity is None else out + 0.3 * identity[:, None, None, None] * xt


def denoised(parts: list[Prompt] | Tensor, guidance: Guidance | float = 0.0, t: Tensor = T, **options) -> Tensor:
    return guided_denoiser(Network(), SCHEDULE, parts, guidance, **options)(XT, t)


def answer(condition: Tensor, t: Tensor = T) -> Tensor:
    """What the network alone predicts."""
    return Network()(XT, t.expand(N), condition)


def plain(condition: Tensor, t: Tensor = T, prediction: str = "v") -> Tensor:
    """The image that the network alone predicts."""
    return picture(answer(condition, t), t, prediction)


def picture(value: Tensor, t: Tensor = T, prediction: str = "v") -> Tensor:
    alpha, sigma = (float(level) for level in SCHEDULE.alpha_sigma(t))
    return to_x0(prediction, XT, value, alpha, sigma)


def unclipped(scale: float = 0.0, **options) -> Guidance:
    return Guidance(scale, threshold="none", **options)


# --- the formula ---


@settings(max_examples=25)
@given(w=st.floats(-10, 10), cond=st.floats(-3, 3), uncond=st.floats(-3, 3))
def test_guidance_is_one_plus_w_times_cond_minus_w_times_uncond(w: float, cond: float, uncond: float) -> None:
    guided = guide(torch.tensor(cond, dtype=torch.float64), torch.tensor(uncond, dtype=torch.float64), w)
    assert float(guided) == pytest.approx((1 + w) * cond - w * uncond, abs=1e-9)


@settings(max_examples=25)
@given(w=st.floats(-10, 10), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_guidance_is_linear_in_the_predictions(w: float, a: float, b: float) -> None:
    cond, uncond = random(2, 2, 3, 3, seed=1).double(), random(2, 2, 3, 3, seed=2).double()
    together = guide(a * cond[:1] + b * cond[1:], a * uncond[:1] + b * uncond[1:], w)
    torch.testing.assert_close(together, a * guide(cond[:1], uncond[:1], w) + b * guide(cond[1:], uncond[1:], w))


def test_without_guidance_the_conditional_prediction_is_not_even_rounded() -> None:
    cond, uncond = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    assert torch.equal(guide(cond, uncond, 0.0), cond)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("g", [-3.0, 0.0, 1.0, 7.5])
def test_guidance_and_rescaling_are_those_of_diffusers_at_its_scale_minus_1(g: float, phi: float) -> None:
    cond, uncond = random(2, 3, 8, 8).double(), 3 * random(2, 3, 8, 8, seed=1).double()
    theirs = ClassifierFreeGuidance(guidance_scale=g, guidance_rescale=phi).forward(cond, uncond).pred
    torch.testing.assert_close(rescale(guide(cond, uncond, g - 1), cond, phi), theirs, atol=1e-6, rtol=0)


# --- the guided image ---


@pytest.mark.parametrize("prediction", PREDICTIONS)
@settings(max_examples=25)
@given(t=st.floats(0.01, 0.9))
def test_scale_0_is_the_conditional_prediction(prediction: str, t: float) -> None:
    expected = plain(ROSE, at(t), prediction)
    assert torch.equal(denoised(ROSE, unclipped(), at(t), prediction=prediction), expected)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@settings(max_examples=25)
@given(t=st.floats(0.01, 0.9))
def test_scale_minus_1_is_the_unconditional_prediction(prediction: str, t: float) -> None:
    expected = plain(NULL, at(t), prediction)
    torch.testing.assert_close(denoised(ROSE, unclipped(-1.0), at(t), prediction=prediction), expected)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@settings(max_examples=25)
@given(w=st.floats(-20, 20))
def test_other_scales_extrapolate_between_the_two(prediction: str, w: float) -> None:
    # The image is affine in the prediction and guidance's factors sum to 1: it may as well be done on images.
    expected = (1 + w) * plain(ROSE, prediction=prediction) - w * plain(NULL, prediction=prediction)
    torch.testing.assert_close(denoised(ROSE, unclipped(w), prediction=prediction), expected, atol=1e-5, rtol=1e-5)


def test_a_number_for_guidance_is_its_scale() -> None:
    assert torch.equal(denoised(ROSE, 2.0), denoised(ROSE, Guidance(2.0)))


def test_a_tensor_of_conditions_is_one_prompt_at_all_times() -> None:
    assert torch.equal(denoised(ROSE, 2.0), denoised([Prompt(ROSE)], 2.0))


def test_a_negative_prompt_takes_the_place_of_the_null_condition() -> None:
    expected = 3 * plain(ROSE) - 2 * plain(TULIP)
    torch.testing.assert_close(denoised(ROSE, 2.0, negative=TULIP), expected)
    assert torch.equal(denoised(ROSE, 2.0, negative=NULL), denoised(ROSE, 2.0))


# --- how the network is called ---


@pytest.mark.parametrize("w", [-1.0, 2.0])
def test_both_predictions_come_from_one_batched_call(w: float) -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, ROSE, w)(XT, T)
    ((seen, times, conditions),) = network.calls
    assert torch.equal(seen, torch.cat([XT, XT]))
    assert torch.equal(conditions, torch.cat([ROSE, NULL]))
    assert times.shape == (2 * N,)


def test_without_guidance_the_unconditional_prediction_is_not_computed() -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, [Prompt(ROSE), Prompt(TULIP, 0.3)], 0.0, negative=DAISY)(XT, T)
    assert network.sizes == [2 * N]


def test_the_network_gets_its_time_in_float32_once_a_image() -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, ROSE)(XT, T)
    times = network.calls[0][1]
    assert times.dtype == torch.float32
    assert times.tolist() == pytest.approx([0.4] * N)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_a_network_that_answers_in_bf16_is_continued_in_float32(w: float) -> None:
    def network(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return Network()(xt, t, condition).bfloat16()

    def rounded(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return network(xt, t, condition).float()

    guidance = Guidance(w, rescale=0.7, threshold="dynamic")
    parts = [Prompt(ROSE), Prompt(TULIP, -0.3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x0 = guided_denoiser(network, SCHEDULE, parts, guidance)(XT, T)
    assert x0.dtype == torch.float32
    assert torch.equal(x0, guided_denoiser(rounded, SCHEDULE, parts, guidance)(XT, T))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_noisy_images_in_other_formats_are_continued_in_float32_too(kind: torch.dtype) -> None:
    xt = XT.to(kind)
    x0 = guided_denoiser(Network(), SCHEDULE, ROSE, 2.0)(xt, T)
    assert x0.dtype == torch.float32
    torch.testing.assert_close(x0, guided_denoiser(Network(), SCHEDULE, ROSE, 2.0)(xt.float(), T), atol=2e-3, rtol=0)


def test_images_keep_their_layout_in_memory() -> None:
    network = Network()
    xt = XT.to(memory_format=torch.channels_last)
    x0 = guided_denoiser(network, SCHEDULE, [Prompt(ROSE), Prompt(TULIP)], Guidance(2.0, rescale=0.5))(xt, T)
    assert network.calls[0][0].is_contiguous(memory_format=torch.channels_last)
    assert x0.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("threshold", ["static", "dynamic", "none"])
def test_a_image_does_not_depend_on_its_batch_mates(threshold: str) -> None:
    def paint(i: slice) -> Tensor:
        guidance = Guidance(30.0, (0.1, 0.9), rescale=0.6, threshold=threshold)
        parts = [
            Prompt(ROSE[i], 1.0),
            Prompt(TULIP[i], -0.5, (0.0, 0.6)),
            Prompt(DAISY[i], 2.0),
        ]
        return guided_denoiser(Network(), SCHEDULE, parts, guidance, negative=-ROSE[i])(20 * XT[i], T)

    torch.testing.assert_close(torch.cat([paint(slice(i, i + 1)) for i in range(N)]), paint(slice(None)))


# --- the interval ---


@pytest.mark.parametrize(("t", "branches"), [(1.0, 1), (0.81, 1), (0.8, 2), (0.5, 2), (0.21, 2), (0.2, 1), (0.1, 1)])
def test_guidance_acts_within_its_interval_only(t: float, branches: int) -> None:
    network = Network()
    x0 = guided_denoiser(network, SCHEDULE, ROSE, Guidance(2.0, (0.2, 0.8)))(XT, at(t))
    assert network.sizes == [branches * N]
    assert torch.equal(x0, denoised(ROSE, 2.0 if branches == 2 else 0.0, at(t)))


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_the_interval_of_all_times_has_both_ends(t: float) -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, ROSE, 2.0)(XT, at(t))
    assert network.sizes == [2 * N]


@pytest.mark.parametrize("t", [at(0.1) + at(0.2), torch.linspace(1, 0, 11, dtype=torch.float64)[7], torch.tensor(0.3)])
def test_a_bound_is_met_whatever_its_rounding(t: Tensor) -> None:
    below, above = Network(), Network()
    guided_denoiser(below, SCHEDULE, ROSE, Guidance(2.0, (0.0, 0.3)))(XT, t)
    guided_denoiser(above, SCHEDULE, ROSE, Guidance(2.0, (0.3, 1.0)))(XT, t)
    assert (below.sizes, above.sizes) == ([2 * N], [N])


def test_the_times_of_the_papers_interval_are_those_the_docstring_gives() -> None:
    sigmas = torch.tensor([0.28, 2.9], dtype=torch.float64)
    assert time_at(SCHEDULE, -2 * sigmas.log()).tolist() == pytest.approx([0.17, 0.79], abs=0.005)


# --- rescaling ---


def stds(x: Tensor) -> Tensor:
    return x.flatten(1).std(dim=1)


@settings(max_examples=25)
@given(w=st.floats(-5, 20), phi=st.floats(0, 1))
def test_rescaling_moves_each_images_std_towards_the_conditional_predictions(w: float, phi: float) -> None:
    cond, uncond = random(2, 3, 8, 8), random(2, 3, 8, 8, seed=1) * torch.tensor([0.3, 2.0])[:, None, None, None]
    guided = guide(cond, uncond, w)
    torch.testing.assert_close(stds(rescale(guided, cond, phi)), phi * stds(cond) + (1 - phi) * stds(guided))


def test_a_full_rescale_restores_the_std_of_the_conditional_prediction() -> None:
    value = rescale(guide(answer(ROSE), answer(NULL), 4.0), answer(ROSE), 1.0)
    torch.testing.assert_close(stds(value), stds(answer(ROSE)))
    torch.testing.assert_close(denoised(ROSE, Guidance(4.0, rescale=1.0)), picture(value))


def test_a_rescale_of_0_changes_nothing() -> None:
    guided = random(2, 3, 4, 4)
    assert torch.equal(rescale(guided, random(2, 3, 4, 4, seed=1), 0.0), guided)


def test_an_even_prediction_has_no_std_to_rescale() -> None:
    even = torch.full((2, 3, 4, 4), 0.25)
    assert torch.equal(rescale(even, random(2, 3, 4, 4), 1.0), even)


# --- thresholding ---


def values(*pixels: float) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_predicted_images_are_clipped_to_the_range_of_images() -> None:
    x0 = denoised(ROSE, 50.0)
    assert x0.min() == -1
    assert x0.max() == 1
    assert torch.equal(x0, denoised(ROSE, unclipped(50.0)).clamp(-1, 1))


def test_without_a_threshold_predictions_run_beyond_it() -> None:
    assert denoised(ROSE, unclipped(50.0)).abs().max() > 2


def test_dynamic_thresholding_clips_at_a_percentile_and_scales_back() -> None:
    # Of the absolute values 0, 1, 2, 3, 4 the 75th percentile is 3.
    clipped = dynamic_threshold(values(0, -1, 2, -3, 4), 0.75)
    torch.testing.assert_close(clipped, values(0, -1 / 3, 2 / 3, -1, 1))


def test_a_percentile_between_two_values_is_interpolated() -> None:
    # 0.9 of the way over five values lies 0.6 of the way from 3 to 4.
    torch.testing.assert_close(dynamic_threshold(values(0, -1, 2, -3, 4), 0.9), values(0, -1, 2, -3, 3.6) / 3.6)


def test_dynamic_thresholding_never_brightens() -> None:
    x0 = values(0.1, -0.2, 0.5)
    assert torch.equal(dynamic_threshold(x0, 0.5), x0)
    assert torch.equal(dynamic_threshold(values(0.1, -0.2, 5), 0.5), values(0.1, -0.2, 1))


def test_each_image_has_its_own_percentile() -> None:
    together = dynamic_threshold(torch.cat([values(0, 1, 2), values(0, 10, 20)]), 1.0)
    torch.testing.assert_close(together, torch.cat([values(0, 0.5, 1), values(0, 0.5, 1)]))


@settings(max_examples=25)
@given(percentile=st.floats(0.01, 1), size=st.floats(0.1, 10))
def test_dynamic_thresholding_agrees_with_diffusers(percentile: float, size: float) -> None:
    x0 = size * random(3, 3, 8, 8)
    theirs = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=1e6)
    torch.testing.assert_close(dynamic_threshold(x0, percentile), theirs._threshold_sample(x0), atol=1e-6, rtol=0)


def test_the_guided_image_is_thresholded_dynamically() -> None:
    x0 = denoised(ROSE, Guidance(50.0, threshold="dynamic"))
    torch.testing.assert_close(x0, dynamic_threshold(denoised(ROSE, unclipped(50.0))))


# --- several prompts ---


@settings(max_examples=25)
@given(w=st.floats(-5, 5), first=st.floats(0.1, 10), second=st.floats(-10, -0.1) | st.floats(0.1, 10))
def test_prompts_are_composed_by_their_weights(w: float, first: float, second: float) -> None:
    a, b = first / (first + abs(second)), second / (first + abs(second))
    rose, tulip, base = plain(ROSE), plain(TULIP), plain(NULL)
    expected = base + (1 + w) * (a * (rose - base) + b * (tulip - base))
    torch.testing.assert_close(denoised([Prompt(ROSE, first), Prompt(TULIP, second)], unclipped(w)), expected)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_a_prompt_composed_with_itself_is_that_prompt(w: float) -> None:
    torch.testing.assert_close(denoised([Prompt(ROSE, 0.3), Prompt(ROSE, 0.9)], w), denoised(ROSE, w))


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_without_a_negative_weight_composing_is_guiding_the_weighted_mean(w: float) -> None:
    mean = 0.25 * plain(ROSE) + 0.75 * plain(TULIP)
    parts = [Prompt(ROSE), Prompt(TULIP, 3.0)]
    torch.testing.assert_close(denoised(parts, w), guide(mean, plain(NULL), w))


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_the_order_of_prompts_does_not_matter(w: float) -> None:
    parts = [Prompt(ROSE), Prompt(TULIP, -0.5), Prompt(DAISY, 2.0)]
    torch.testing.assert_close(denoised(parts, w), denoised(parts[::-1], w))


@settings(max_examples=25)
@given(size=st.floats(1e-3, 1e3))
def test_only_the_ratios_of_weights_count(size: float) -> None:
    parts = [Prompt(ROSE, 0.7), Prompt(TULIP, -0.5), Prompt(DAISY, 2.0)]
    scaled = [Prompt(part.condition, size * part.weight) for part in parts]
    torch.testing.assert_close(denoised(scaled, 2.0), denoised(parts, 2.0))


def test_a_negative_weight_guides_away_from_a_prompt() -> None:
    torch.testing.assert_close(denoised([Prompt(ROSE, -1.0)]), 2 * plain(NULL) - plain(ROSE))


def test_a_negative_weight_has_its_base_even_without_guidance() -> None:
    network = Network()
    guided_denoiser(network, SCHEDULE, [Prompt(ROSE), Prompt(TULIP, -1.0)], 0.0)(XT, T)
    assert network.sizes == [3 * N]


def test_a_negative_prompt_is_the_base_of_a_composition_too() -> None:
    base = plain(DAISY)
    expected = base + 3 * (0.5 * (plain(ROSE) - base) - 0.5 * (plain(TULIP) - base))
    parts = [Prompt(ROSE), Prompt(TULIP, -1.0)]
    torch.testing.assert_close(denoised(parts, 2.0, negative=DAISY), expected)


def test_a_composition_is_rescaled_to_its_own_unguided_std() -> None:
    parts = [Prompt(ROSE), Prompt(TULIP)]
    cond = (answer(ROSE) + answer(TULIP)) / 2
    value = rescale(guide(cond, answer(NULL), 3.0), cond, 0.7)
    torch.testing.assert_close(denoised(parts, Guidance(3.0, rescale=0.7)), picture(value))


# --- prompt schedules ---


@pytest.mark.parametrize("t", [1.0, 0.7, 0.61, 0.6, 0.3, 0.01, 0.0])
def test_of_a_prompt_schedule_the_early_prompt_counts_first_and_the_late_one_from_the_joint_on(t: float) -> None:
    network = Network()
    schedule = [Prompt(ROSE, 5.0, (0.6, 1.0)), Prompt(TULIP, 1.0, (0.0, 0.6))]
    x0 = guided_denoiser(network, SCHEDULE, schedule, 2.0)(XT, at(t))
    assert torch.equal(x0, denoised(ROSE if t > 0.6 else TULIP, 2.0, at(t)))
    assert network.sizes == [2 * N]


@settings(max_examples=25)
@given(joint=st.floats(0.01, 0.99), nudge=st.floats(-3e-6, 3e-6))
def test_exactly_one_of_two_adjoining_prompts_is_active_around_the_joint(joint: float, nudge: float) -> None:
    network = Network()
    parts = [Prompt(ROSE, interval=(joint, 1.0)), Prompt(TULIP, interval=(0.0, joint))]
    guided_denoiser(network, SCHEDULE, parts)(XT, at(joint + nudge))
    assert network.sizes == [N]


def test_intervals_may_overlap() -> None:
    parts = [Prompt(ROSE, 1.0, (0.3, 1.0)), Prompt(TULIP, 1.0, (0.0, 0.6))]
    assert torch.equal(denoised(parts, 2.0, at(0.2)), denoised(TULIP, 2.0, at(0.2)))
    assert torch.equal(denoised(parts, 2.0, at(0.5)), denoised([Prompt(ROSE), Prompt(TULIP)], 2.0, at(0.5)))
    assert torch.equal(denoised(parts, 2.0, at(0.8)), denoised(ROSE, 2.0, at(0.8)))


def test_an_interval_may_lie_within_another() -> None:
    parts = [Prompt(ROSE), Prompt(TULIP, 1.0, (0.3, 0.6))]
    assert torch.equal(denoised(parts, 2.0, at(0.5)), denoised([Prompt(ROSE), Prompt(TULIP)], 2.0, at(0.5)))
    assert torch.equal(denoised(parts, 2.0, at(0.8)), denoised(ROSE, 2.0, at(0.8)))


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0])
def test_where_no_prompt_is_active_the_base_is_predicted(t: float) -> None:
    parts = [Prompt(ROSE, interval=(0.2, 0.4)), Prompt(TULIP, interval=(0.6, 0.9))]
    torch.testing.assert_close(denoised(parts, 2.0, at(t), negative=DAISY), plain(DAISY, at(t)))


@pytest.mark.parametrize("prompts", [ROSE, [Prompt(ROSE), Prompt(TULIP, 0.5)]])
def test_perturbed_attention_takes_the_base_from_a_network_without_self_attention(
    prompts: list[Prompt] | Tensor,
) -> None:
    network, w = NetworkWithAttention(), 2.0
    guidance = Guidance(w, threshold="none", perturbed_above=0.3)
    found = guided_denoiser(network, SCHEDULE, prompts, guidance)(XT, T)
    mean = answer(ROSE) if isinstance(prompts, Tensor) else (2 * answer(ROSE) + answer(TULIP)) / 3
    v = (1 + w) * mean - w * (answer(NULL) + 0.3 * XT)
    alpha, sigma = (float(value) for value in SCHEDULE.alpha_sigma(T))
    torch.testing.assert_close(found, to_x0("v", XT, v, alpha, sigma))
    rows = len(network.calls[0][0])
    assert network.identity is not None
    assert network.identity.tolist() == [0.0] * (rows - N) + [1.0] * N


@pytest.mark.parametrize(
    "guidance",
    [
        Guidance(2.0, perturbed_above=0.4),  # not above this time
        Guidance(2.0, (0.5, 0.9), perturbed_above=0.0),  # no guidance at this time
        Guidance(-1.0, perturbed_above=0.0),  # a negative scale asks for the base itself
        Guidance(0.0, perturbed_above=0.0),
        Guidance(2.0),
    ],
)
def test_elsewhere_a_network_is_not_asked_to_disable_its_attention(guidance: Guidance) -> None:
    network = NetworkWithAttention()
    guided_denoiser(network, SCHEDULE, ROSE, guidance)(XT, T)
    assert network.identity is None
