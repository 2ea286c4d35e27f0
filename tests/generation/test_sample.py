"""The contract of generation.sample: conditions and seeds in, pixels out, a seed's image the same in any batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import tiny
from captionless.config.sampling import SamplingConfig
from captionless.data.arrays import denormalise
from captionless.device import exact_convolutions
from captionless.diffusion import samplers
from captionless.diffusion.guidance import WeightedCondition as Prompt
from captionless.diffusion.reverse import ReverseProcess, Sampling
from captionless.diffusion.samplers import SAMPLERS
from captionless.diffusion.schedules import CosineSchedule, FlowSchedule, KarrasSchedule, LinearSchedule, log_snr
from captionless.errors import CaptionlessError
from captionless.generation.editing import Edit
from captionless.generation.sample import MAX_SEED, Stage, guided_times, sample, sample_batches, to_images
from captionless.models.capture import EAGER, captured_network

QUICK = SamplingConfig(steps=3, precision="float32")
MODEL = tiny.model()
STAGE = Stage(MODEL.denoiser, MODEL.config)

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))
MASK = Image.new("L", PHOTO.size)
MASK.paste(255, (0, 0, 5, 12))

EDITS = {"plain": None, "init": Edit(PHOTO), "mask": Edit(PHOTO, mask=MASK), "both": Edit(PHOTO, 0.7, MASK)}

WAYS = {
    "plain": {},
    "unguided": {"guidance": 0.0},
    "interval": {"guidance_interval": (0.2, 0.7), "guidance_rescale": 0.7},
    "karras": {"spacing": "karras", "threshold": "dynamic"},
}


def sampled(
    parts: list[Prompt] | Tensor, seeds: list[int] | range, sampling: SamplingConfig = QUICK, **more: Any
) -> Tensor:
    return torch.cat(list(sample_batches([STAGE], parts, seeds, sampling, **more)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def composed(n: int) -> list[Prompt]:
    """All that a composition can ask of n images: a prompt, another that takes over, and one to guide away from."""
    early, late, away = (Prompt(tiny.unit_vectors(n, seed=seed)) for seed in (1, 2, 3))
    return [replace(early, interval=(0.4, 1.0)), replace(late, interval=(0.0, 0.4)), replace(away, weight=-0.5)]


# --- pixels ---


def test_the_range_of_images_is_mapped_onto_0_to_255_and_clipped() -> None:
    x = torch.tensor([-3.0, -1.0, -0.999, 0.0, 0.5, 1.0, 7.0]).reshape(1, 1, 1, 7)
    assert denormalise(x).flatten().tolist() == [0, 0, 0, 128, 191, 255, 255]


def test_pixels_keep_their_place_and_channel() -> None:
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    for picture, image in zip(pixels, to_images(pixels), strict=True):
        assert np.array_equal(np.asarray(image), picture.permute(1, 2, 0).numpy())


# --- a seed means a image ---


@hypothesis_settings(max_examples=16)
@given(
    seeds=st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=5),
    batch=st.integers(1, 6),
    sampler=st.sampled_from(list(SAMPLERS)),
    way=st.sampled_from(sorted(WAYS)),
    edit=st.sampled_from(sorted(EDITS)),
    several=st.booleans(),
)
def test_a_seeds_image_does_not_depend_on_its_batch(
    seeds: list[int], batch: int, sampler: str, way: str, edit: str, several: bool
) -> None:
    n, sampling = len(seeds), QUICK.replace(sampler=sampler, **WAYS[way])
    parts = composed(n) if several else [Prompt(tiny.unit_vectors(n))]
    negative = tiny.unit_vectors(n, seed=9) if several else None
    together = sampled(parts, seeds, sampling.replace(batch=batch), negative=negative, edit=EDITS[edit])
    for i, seed in enumerate(seeds):
        row = slice(i, i + 1)
        own = [replace(part, condition=part.condition[row]) for part in parts]
        avoid = None if negative is None else negative[row]
        alone = sampled(own, [seed], sampling, negative=avoid, edit=EDITS[edit])
        assert (together[i].int() - alone[0].int()).abs().max() <= 1


def test_replayed_network_calls_give_the_same_images(fake_cuda: torch.device) -> None:
    """Guided away from a network without self-attention, with the null condition, and not guided, in two batches."""
    network = tiny.denoiser(replace(tiny.SHAPE, attention=(0, 1)))
    captured, plain = Stage(network, MODEL.config), Stage(network, MODEL.config)
    vars(captured)["network"] = captured_network(network, fake_cuda, print)
    shapes: list[tuple[int, int]] = []
    network.register_forward_pre_hook(lambda _, inputs: shapes.append((len(inputs[0]), len(inputs))))
    sampling = QUICK.replace(steps=6, batch=5, perturbed_attention=1.0, guidance_levels=(0.3, 6.0))

    def images(stage: Stage, seed: int) -> Tensor:
        return sample([stage], tiny.unit_vectors(8, seed=seed), range(seed, seed + 8), sampling).int()

    seen = [images(captured, seed) for seed in range(3)]
    assert Counter(shapes) == dict.fromkeys([(16, 4), (16, 3), (8, 4), (8, 3), (4, 3)], EAGER + 1)
    for seed, image in enumerate(seen):
        assert (image - images(plain, seed)).abs().max() <= 1


def record_noise(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Replace DDPM by something that notes its initial noise and three later draws."""
    noises: list[Tensor] = []

    def spy(x: Tensor, process: ReverseProcess) -> Sampling:
        noises.append(torch.stack([x, process.draw(1), process.draw(1), process.draw(1)], dim=1))
        yield x, process.level(process.times[0])
        return x

    monkeypatch.setitem(samplers.SAMPLERS, "ddpm", spy)
    return noises


def test_all_noise_of_a_seed_is_bitwise_the_same_alone_and_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    noises, seeds = record_noise(monkeypatch), [7, 8, 0, 7, MAX_SEED]
    for batch in (5, 3, 1):
        sampled(tiny.unit_vectors(5), seeds, QUICK.replace(sampler="ddpm", batch=batch))
    together, by_threes, alone = noises[0], torch.cat(noises[1:3]), torch.cat(noises[3:])
    assert torch.equal(together, by_threes)
    assert torch.equal(together, alone)
    for i, seed in enumerate(seeds):
        assert torch.equal(together[i, 0], torch.randn(3, 8, 8, generator=seeded(seed)))


def test_the_noise_of_one_seed_is_standard_normal_and_never_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    noises = record_noise(monkeypatch)
    sampled(tiny.unit_vectors(40), range(40), QUICK.replace(sampler="ddpm", batch=40))
    draws = noises[0].flatten(0, 1).flatten(1)  # 160 draws of 192 numbers
    assert draws.mean() == pytest.approx(0, abs=0.03)
    assert draws.std() == pytest.approx(1, abs=0.03)
    correlation = (draws @ draws.T / 192).fill_diagonal_(0)
    assert correlation.abs().max() < 0.5


@pytest.mark.parametrize("seed", [0, 1, 12345, MAX_SEED - 1])
def test_neighbouring_seeds_start_from_different_noise(seed: int) -> None:
    assert not torch.equal(
        torch.randn(3, 8, 8, generator=seeded(seed)), torch.randn(3, 8, 8, generator=seeded(seed + 1))
    )


def test_the_largest_seed_is_the_last_that_the_generator_tells_from_others() -> None:
    """If this fails, PyTorch reads more of a seed than it did, and ``MAX_SEED`` may rise."""
    assert torch.equal(
        torch.randn(3, 8, 8, generator=seeded(5)), torch.randn(3, 8, 8, generator=seeded(5 + MAX_SEED + 1))
    )


@pytest.mark.parametrize(("conditions", "seeds"), [(1, 2), (2, 1), (0, 0)])
def test_every_condition_needs_its_seed(conditions: int, seeds: int) -> None:
    with pytest.raises(CaptionlessError, match=f"{conditions} conditions and {seeds} seeds"):
        sampled(torch.zeros(conditions, tiny.WIDTH), range(seeds))


# --- what decides a image ---


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": 0.0},
        {"guidance_interval": (0.0, 0.5)},
        {"guidance_rescale": 1.0},
        {"threshold": "none"},
        {"steps": 5},
        {"spacing": "karras"},
        {"sampler": "ddim", "eta": 1.0},
        {"sampler": "euler", "churn": 30.0},
        {"sampler": "ddpm", "variance": "upper"},
    ],
    ids=str,
)
def test_every_way_of_sampling_changes_the_image(change: dict[str, Any]) -> None:
    plain = QUICK.replace(sampler=change.get("sampler", QUICK.sampler))
    before, after = (sampled(tiny.unit_vectors(1), [0], way) for way in (plain, plain.replace(**change)))
    assert (before.int() - after.int()).abs().max() > 1


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("spacing", ["even", "karras"])
def test_the_steps_are_told_from_the_first_time_on(spacing: str, edit: str) -> None:
    """From the strength of an edit; from noise, but that EDM's levels begin a little below the schedule's."""
    told: list[tuple[int, float]] = []
    start = {"plain": 1.0, "init": 0.6, "mask": 1.0, "both": 0.7}[edit]
    sampled(
        tiny.unit_vectors(2),
        [0, 1],
        QUICK.replace(spacing=spacing),
        edit=EDITS[edit],
        on_step=lambda step: told.append((step.number, step.t)),
    )
    assert [step for step, _ in told] == [0, 1, 2]
    assert told[0][1] == pytest.approx(start, abs=0.01 if spacing == "karras" and start == 1 else 1e-6)
    assert all(before > after > 0 for (_, before), (_, after) in pairwise(told))


# --- formats of numbers ---


def test_float32_on_cuda_does_without_tf32_and_leaves_the_setting_as_it_was() -> None:
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions("float32", torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before
    with exact_convolutions("bf16", torch.device("cuda")):
        assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("edit", ["plain", "mask"])
@pytest.mark.parametrize("parts", [lambda n: [Prompt(tiny.unit_vectors(n))], composed], ids=["one", "composed"])
def test_bf16_samples_nearly_the_image_of_float32_alone_or_in_a_batch(
    parts: Callable[[int], list[Prompt]], edit: str
) -> None:
    """The stated tolerance: 2 of 255 levels on average and 12 at most, with this network of random weights."""

    def ways(precision: str, batch: int) -> Tensor:
        sampling = QUICK.replace(precision=precision, batch=batch)
        return sampled(parts(3), [0, 1, 2], sampling, edit=EDITS[edit]).float()

    exact, together, alone = ways("float32", 3), ways("bf16", 3), ways("bf16", 1)
    for difference in ((together - exact).abs(), (together - alone).abs()):
        assert difference.mean() <= 2
        assert difference.max() <= 12
    assert not torch.equal(together, exact)


# --- when guidance acts ---


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), KarrasSchedule(), LinearSchedule()])
def test_guidance_acts_between_the_same_noise_levels_on_every_schedule(schedule: Any) -> None:
    times = torch.tensor(guided_times(SamplingConfig(), schedule), dtype=torch.float64)
    levels = torch.exp(-0.5 * log_snr(schedule, times))
    torch.testing.assert_close(levels, torch.tensor(SamplingConfig().guidance_levels, dtype=torch.float64))


def test_on_the_cosine_schedule_these_are_nearly_all_times() -> None:
    assert guided_times(SamplingConfig(), CosineSchedule()) == pytest.approx((0.037, 0.9), abs=1e-3)


def test_an_edit_is_guided_in_the_same_part_of_its_shorter_way() -> None:
    assert guided_times(SamplingConfig(), CosineSchedule(), 0.5) == pytest.approx((0.0186, 0.45), abs=1e-3)


@pytest.mark.parametrize("w", [0.0, -1.0])
def test_guidance_that_does_not_lean_towards_the_words_acts_at_all_times(w: float) -> None:
    assert guided_times(SamplingConfig(guidance=w), CosineSchedule()) == (0.0, 1.0)


@pytest.mark.parametrize("w", [-1.0, 5.0])
def test_a_chosen_interval_is_kept(w: float) -> None:
    assert guided_times(SamplingConfig(guidance=w, guidance_interval=(0.2, 0.3)), CosineSchedule(), 0.5) == (0.2, 0.3)


class Attentive(torch.nn.Module):
    """Notes at which times rows disable self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.weight = MODEL.denoiser.config, torch.nn.Parameter(torch.zeros(1))
        self.times: list[float] = []

    def forward(self, xt: Tensor, t: Tensor, condition: Tensor, identity: Tensor | None = None) -> Tensor:
        if identity is not None:
            self.times.append(float(t[0]))
        return 0.1 * xt


@pytest.mark.parametrize(("level", "lowest"), [(0.3, 0.2), (0.0, 0.1), (1.0, 0.6), (1000.0, None)])
def test_attention_is_perturbed_above_a_noise_level(level: float, lowest: float | None) -> None:
    """Of ten even steps, those from 0.9 are guided; the level 0.3 has the time 0.186 on the cosine schedule."""
    network = Attentive()
    sampling = SamplingConfig(steps=10, perturbed_attention=level)
    sample([Stage(network, MODEL.config)], tiny.unit_vectors(1), [0], sampling)  # type: ignore[arg-type]
    assert (min(network.times) if network.times else None) == (None if lowest is None else pytest.approx(lowest))


# --- where drawing begins ---


class Ideal(torch.nn.Module):
    """Stands in for a denoiser; clean images vary by 0.1 about 0.3, which a linear answer denoises ideally."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.weight = MODEL.denoiser.config, torch.nn.Parameter(torch.zeros(1))

    def forward(self, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in CosineSchedule().alpha_sigma(t))
        x0 = 0.3 + alpha * 0.01 / (alpha**2 * 0.01 + sigma**2) * (xt - alpha * 0.3)
        return (alpha * xt - x0) / sigma


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [3, 5, 10])
def test_few_even_steps_of_every_sampler_stay_in_the_range_of_the_data(sampler: str, steps: int) -> None:
    """Heun's first step from the trace of a image at t = 1 would overshoot a hundredfold."""
    sampling = SamplingConfig(guidance=0.0, steps=steps, sampler=sampler, threshold="none", precision="float32")
    pixels = sample([Stage(Ideal(), MODEL.config)], tiny.unit_vectors(4), range(4), sampling)  # type: ignore[arg-type]
    x = pixels.float() / 127.5 - 1
    assert x.mean() == pytest.approx(0.3, abs=0.05)
    assert x.std() < 0.2


def test_at_full_strength_nothing_of_the_photograph_is_left() -> None:
    conditions = tiny.unit_vectors(2)
    config = replace(MODEL.config, schedule=LinearSchedule(150))
    stages = [Stage(MODEL.denoiser, config)]
    (plain,) = sample_batches(stages, conditions, range(2), QUICK)
    (edited,) = sample_batches(stages, conditions, range(2), QUICK, edit=Edit(PHOTO, 1.0))
    assert torch.equal(plain, edited)
