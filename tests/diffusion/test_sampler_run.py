"""The contract of captionless.diffusion.sampler_run: one loop runs every sampler, alone or batched with others."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from captionless.diffusion.guidance import Guidance, GuidedPrediction, WeightedCondition, guided_denoiser
from captionless.diffusion.reverse import ReverseProcess, Sampling
from captionless.diffusion.sampler_run import SamplerRun, Step, advance, run_sampler
from captionless.diffusion.samplers import SAMPLERS, ddim, ddpm
from captionless.diffusion.schedules import CosineSchedule, karras_times, sampling_times
from captionless.errors import CaptionlessError

SCHEDULE = CosineSchedule()


@dataclass(frozen=True)
class Request:
    """Images of one request, which differ from those of others in everything that can differ."""

    sampler: str
    steps: int
    seeds: tuple[int, ...]
    guidance: Guidance
    joins: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    spacing: Callable[..., Tensor] = lambda steps: sampling_times(steps)

    def prompts(self) -> list[WeightedCondition]:
        """One prompt, and, beside an even number of images, another that only the first half of the times has."""
        n, seed = len(self.seeds), self.seeds[0]
        late = [WeightedCondition(tiny.unit_vectors(n, seed=seed + 100), -0.3, (0.5, 1.0))] if n % 2 == 0 else []
        return [WeightedCondition(tiny.unit_vectors(n, seed=seed)), *late]

    def sampling(self) -> Sampling:
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

        def noise() -> Tensor:
            return torch.stack([torch.randn(3, 8, 8, generator=generator) for generator in generators])

        process = ReverseProcess(SCHEDULE, self.spacing(self.steps), noise)
        return SAMPLERS[self.sampler](noise(), process, **self.options)


REQUESTS = [
    Request("dpmpp-2m", 7, (1,), Guidance(5.0)),
    Request("dpmpp-2m", 5, (11, 12), Guidance(3.0, perturbed_above=0.4), joins=1),
    Request("heun", 4, (2, 3), Guidance(2.0, (0.3, 0.8), rescale=0.5)),
    Request("ddpm", 9, (4, 5, 6), Guidance(0.0), joins=2, options={"variance": "upper"}),
    Request("unipc", 5, (7,), Guidance(-1.0), joins=3, spacing=lambda steps: karras_times(SCHEDULE, steps)),
    Request("euler", 3, (8,), Guidance(30.0, threshold="dynamic"), joins=3, options={"churn": 2.0}),
    Request("ddim", 6, (9, 10), Guidance(4.0), joins=5, options={"eta": 0.7}),
]


class CountedNetwork:
    """A denoiser of random weights that notes how many rows each call had."""

    def __init__(self) -> None:
        self.network, self.rows = tiny.denoiser(), list[int]()

    @torch.no_grad()
    def __call__(self, xt: Tensor, t: Tensor, condition: Tensor, identity: Tensor | None = None) -> Tensor:
        assert len(xt) == len(t) == len(condition)
        self.rows.append(len(xt))
        return self.network(xt, t, condition, identity)


def test_runs_that_differ_in_everything_share_network_calls_and_give_the_same_images_as_alone() -> None:
    network = CountedNetwork()
    alone = [
        run_sampler(request.sampling(), guided_denoiser(network, SCHEDULE, request.prompts(), request.guidance))
        for request in REQUESTS
    ]
    rows_alone, network.rows = network.rows, []

    runs: dict[int, SamplerRun] = {}
    images: dict[int, Tensor] = {}
    steps: dict[int, list[int]] = {i: [] for i in range(len(REQUESTS))}
    for call in range(100):
        for i, request in enumerate(REQUESTS):
            if request.joins == call:
                prediction = GuidedPrediction(SCHEDULE, request.prompts(), request.guidance)
                runs[i] = SamplerRun(request.sampling(), prediction)
        for i, step in zip(list(runs), advance(list(runs.values()), network), strict=True):
            steps[i] += [step.number] if step else []
            finished = runs[i].images
            if finished is not None:
                images[i] = finished
                del runs[i]
        if not runs:
            break

    for i, request in enumerate(REQUESTS):
        torch.testing.assert_close(images[i], alone[i], atol=1e-4, rtol=0)
        assert steps[i] == list(range(request.steps))
    assert sum(network.rows) == sum(rows_alone)
    assert len(network.rows) == max(request.joins + request.steps for request in REQUESTS)
    assert max(network.rows) > max(rows_alone)


def test_runs_of_a_super_resolution_stage_each_keep_their_own_low_resolution_image() -> None:
    """Whatever the number of conditions that an image is evaluated with."""
    seen: list[Tensor] = []

    def network(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        seen.append(xt[:, 3:])
        return xt[:, :3]

    low_res = [torch.full((n, 4, 8, 8), float(value)) for n, value in ((1, 1), (2, 2))]
    runs = [
        SamplerRun(ddim(tiny.random(len(low), 3, 8, 8), ReverseProcess(SCHEDULE, sampling_times(2))), guided, low)
        for low, guided in (
            (low_res[0], GuidedPrediction(SCHEDULE, torch.zeros(1, 8), 2.0)),
            (low_res[1], GuidedPrediction(SCHEDULE, torch.zeros(2, 8))),
        )
    ]
    advance(runs, network)
    assert torch.equal(seen[0], torch.cat([low_res[0], low_res[0], low_res[1]]))


def test_a_step_can_be_watched_and_a_sampling_ended_from_outside() -> None:
    class EnoughError(Exception):
        pass

    seen: list[Step] = []

    def watch(step: Step) -> None:
        seen.append(step)
        if step.number == 2:
            raise EnoughError

    process = ReverseProcess(SCHEDULE, sampling_times(9))
    with pytest.raises(EnoughError):
        run_sampler(ddim(tiny.random(1, 3, 4, 4), process), lambda xt, t: xt.clamp(-1, 1), watch)
    assert [step.number for step in seen] == [0, 1, 2]


def test_a_run_of_many_steps_is_begun_as_quickly_as_one_of_few() -> None:
    """A server begins and keeps the runs of many requests."""

    def tensors() -> int:
        return sum(type(each) is Tensor for each in gc.get_objects())

    before, process = tensors(), ReverseProcess(SCHEDULE, sampling_times(10_000))
    begun = [sampler(tiny.random(1, 3, 4, 4), process) for sampler in SAMPLERS.values()]
    for sampling in begun:
        next(sampling)
    assert tensors() - before < 1000


def test_a_sampler_that_adds_noise_says_that_it_was_given_none() -> None:
    process = ReverseProcess(SCHEDULE, sampling_times(3))
    with pytest.raises(CaptionlessError, match="`noise`"):
        run_sampler(ddpm(tiny.random(1, 3, 4, 4), process), lambda xt, t: xt)
