"""captionless.diffusion.samplers against a second implementation: trajectories of ``diffusers``, step by step.

Both sides get the same noise levels, the same network and the same draws. The levels are ``diffusers``' own, in its
float32; its state is compared in our scale.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from captionless.diffusion.reverse import ReverseProcess
from captionless.diffusion.sampler_run import run_sampler
from captionless.diffusion.samplers import (
    Sampler,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    heun,
    unipc,
)
from captionless.diffusion.schedules import KarrasSchedule, sampling_times
from sampler_cases import draws
from tiny import random

BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
MULTISTEP = {"solver_order": 2, "final_sigmas_type": "zero"}
PREDICTIONS = ("v_prediction", "epsilon", "sample")
NO_SAMPLE = ("euler-ancestral", "sample")  # which diffusers has not
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Kind:
    """One of our samplers and its counterpart: its class, the options of its making and of its steps."""

    ours: Sampler
    theirs: str
    options: dict[str, Any] = field(default_factory=dict)
    step: dict[str, Any] = field(default_factory=dict)
    draws: bool = False


KINDS = {
    "ddpm": Kind(ddpm, "DDPMScheduler", {"variance_type": "fixed_small", "clip_sample": False}, draws=True),
    "ddpm-upper": Kind(
        partial(ddpm, variance="upper"),
        "DDPMScheduler",
        {"variance_type": "fixed_large", "clip_sample": False},
        draws=True,
    ),
    "ddim": Kind(ddim, "DDIMScheduler", {"clip_sample": False}),
    "ddim-eta": Kind(partial(ddim, eta=0.7), "DDIMScheduler", {"clip_sample": False}, {"eta": 0.7}, draws=True),
    "dpmpp-2m": Kind(dpmpp_2m, "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", **MULTISTEP}),
    "dpmpp-2m-sde": Kind(
        dpmpp_2m_sde, "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", **MULTISTEP}, draws=True
    ),
    "unipc": Kind(unipc, "UniPCMultistepScheduler", {"solver_type": "bh2", "predict_x0": True, **MULTISTEP}),
    "heun": Kind(heun, "HeunDiscreteScheduler"),
    "euler": Kind(euler, "EulerDiscreteScheduler"),
    "euler-ancestral": Kind(euler_ancestral, "EulerAncestralDiscreteScheduler", draws=True),
}
SCALED = ("heun", "euler", "euler-ancestral")
"""Those whose state is ``x / alpha`` (EDM's coordinates)."""


class Table:
    """Noise levels at the times 1, (n-1)/n ... 1/n; the clean image at 0."""

    def __init__(self, alpha: Tensor, sigma: Tensor) -> None:
        self.alpha, self.sigma = alpha.double(), sigma.double()

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        n = len(self.alpha)
        index = n - int((t * n).round())
        return self.alpha[index], self.sigma[index]


def levels(scheduler: Any) -> Table:
    """The noise levels that a scheduler visits."""
    if not hasattr(scheduler, "sigmas"):
        alpha_bar = scheduler.alphas_cumprod[scheduler.timesteps].double()
        return Table(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())
    sigma = scheduler.sigmas[:-1].double().unique().flip(0)
    if scheduler.config.get("use_flow_sigmas"):
        return Table(1 - sigma, sigma)
    return Table(1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt())


def network(xt: Tensor, time: float) -> Tensor:
    """Some smooth answer that mixes pixels and depends on the time."""
    return torch.tanh(0.7 * xt.roll(1, 3) - 0.4 * xt.roll(1, 2) + time)


def their_trajectory(kind: Kind, scheduler: Any, scale: Tensor, x: Tensor) -> Tensor:
    """``scale`` times ``diffusers``' state before every step, and its result."""
    state, trajectory = x / float(scale[0]), [x]
    step = kind.step | ({"generator": torch.Generator().manual_seed(1)} if kind.draws else {})
    visited = list(dict.fromkeys(scheduler.timesteps.tolist()))
    for t in scheduler.timesteps:
        time = 1 - visited.index(t.item()) / len(visited)
        answer = network(scheduler.scale_model_input(state, t), time)
        state = scheduler.step(answer, t, state, **step).prev_sample
        if getattr(scheduler, "state_in_first_order", True):  # else in the middle of a step of Heun's
            trajectory.append(state * float(scale[len(trajectory)]))
    return torch.stack(trajectory if len(trajectory) > len(visited) else [*trajectory, state])


def our_trajectory(sampler: Sampler, schedule: Table, x: Tensor, prediction: str) -> Tensor:
    """Our state before every step, and the result."""
    trajectory: list[Tensor] = []

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
        answer = network(xt, float(t))
        predictions = {
            "epsilon": (xt - sigma * answer) / alpha,
            "v_prediction": alpha * xt - sigma * answer,
            "flow_prediction": xt - sigma * answer,
            "sample": answer,
        }
        return predictions[prediction]

    times = sampling_times(len(schedule.alpha))
    sampling = sampler(x, ReverseProcess(schedule, times, draws(x.shape)))
    end = run_sampler(sampling, denoise, lambda step: trajectory.append(step.x))
    return torch.stack([*trajectory, end])


def deviation(name: str, prediction: str, length: int, steps: int, *, wide: bool = False, **options: Any) -> float:
    """The largest difference of the two trajectories, in parts of their largest value."""
    kind = KINDS[name]
    options = {"prediction_type": prediction, **BETAS, **kind.options, **options}
    scheduler = getattr(diffusers, kind.theirs)(length, **options)
    if wide:
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(steps)
    schedule, x = levels(scheduler), random(2, 3, 8, 8)
    scale = torch.cat([schedule.alpha, torch.ones(1)]) if name in SCALED else torch.ones(steps + 1)
    theirs = their_trajectory(kind, scheduler, scale, x)
    ours = our_trajectory(kind.ours, schedule, x, options["prediction_type"])
    assert ours.shape == theirs.shape == (steps + 1, *x.shape)
    if name == "ddpm-upper" and scheduler.timesteps[-1] > 0:
        # diffusers adds noise to the final images too, unless its last time is 0 (DDPM, algorithm 2: never).
        ours, theirs = ours[:-1], theirs[:-1]
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("length", "steps"), [(1000, 10), (1000, 20), (150, 50)])
@pytest.mark.parametrize(("name", "prediction"), [pair for pair in product(KINDS, PREDICTIONS) if pair != NO_SAMPLE])
def test_trajectories_are_those_of_diffusers(name: str, prediction: str, length: int, steps: int) -> None:
    assert deviation(name, prediction, length, steps) <= 1e-5


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", KINDS)
def test_the_spacing_of_times_makes_no_difference(name: str, spacing: str) -> None:
    # diffusers' DDIM takes every step to be T // steps long, of which linspace knows nothing unless that is 1.
    length, steps = (25, 25) if name.startswith("ddim") and spacing == "linspace" else (1000, 25)
    assert deviation(name, "v_prediction", length, steps, timestep_spacing=spacing) <= 1e-5


@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-2m-sde", "unipc"])
@pytest.mark.parametrize("steps", [5, 20])
def test_on_the_flow_path_trajectories_are_those_of_diffusers(name: str, steps: int) -> None:
    assert deviation(name, "flow_prediction", 1000, steps, **FLOW) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length"), [("ddpm", 1000), ("ddpm", 150), ("ddpm-upper", 150)])
def test_the_full_chain_of_ddpm_is_that_of_diffusers(name: str, length: int) -> None:
    """Step by step; ``diffusers`` computes with its float32 table in float64 here, else its betas lose 4 digits."""
    assert deviation(name, "epsilon", length, length, wide=True) <= 1e-5


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("churn", [0.0, 2.0, 100.0])
def test_churned_euler_is_that_of_diffusers(prediction: str, churn: float) -> None:
    """With our network's answers, since theirs is asked before the noise is added, at the lower level (EDM: after).

    For the same reason their ``v_prediction`` cannot be compared: it converts the answer with the lower level.
    """
    schedule, times, x = KarrasSchedule(), sampling_times(12, start=0.9), random(2, 3, 8, 8)
    answers: list[Tensor] = []

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
        answer = network(xt, float(t))
        answers.append(answer)
        return answer if prediction == "sample" else (xt - sigma * answer) / alpha

    def state(steps: int) -> Tensor:
        """Our state after so many steps, each with its share of the churn."""
        answers.clear()
        process = ReverseProcess(schedule, times[: steps + 1], draws(x.shape))
        return run_sampler(euler(x, process, churn=churn * steps / 12), denoise)

    ours = [x, *map(state, range(1, 13))]

    alpha, sigma = schedule.alpha_sigma(times[:-1])
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type=prediction, **BETAS)
    scheduler.set_timesteps(sigmas=[*(sigma / alpha).tolist(), 0.0])
    state, theirs, generator = x / float(alpha[0]), [x], torch.Generator().manual_seed(1)
    for t, answer, scale in zip(scheduler.timesteps, answers, [*alpha[1:].tolist(), 1.0], strict=True):
        scheduler.scale_model_input(state, t)
        state = scheduler.step(answer, t, state, s_churn=churn, generator=generator).prev_sample
        theirs.append(state * scale)
    assert (torch.stack(ours) - torch.stack(theirs)).abs().max() <= 1e-5 * torch.stack(theirs).abs().max()
