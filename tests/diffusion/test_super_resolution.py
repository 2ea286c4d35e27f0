"""The contract of captionless.diffusion.super_resolution: a second denoiser upsamples the images of the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from captionless.checkpoints.model import Model
from captionless.config.sampling import SamplingConfig
from captionless.config.training import TrainConfig
from captionless.data.arrays import normalise
from captionless.diffusion.objective import denoising_loss
from captionless.diffusion.schedules import CosineSchedule
from captionless.diffusion.super_resolution import (
    MAX_NOISE,
    low_res_channels,
    with_low_res,
)
from captionless.generation.editing import Edit
from captionless.generation.generator import Generator
from captionless.generation.sample import Stage, sample, sample_batches, to_images
from captionless.models.presets import super_resolution_denoiser
from captionless.models.unet import Denoiser
from captionless.training import step
from captionless.training.dataset import Examples
from captionless.training.loop import loop
from captionless.training.randomness import Stream
from captionless.training.state import begin_state

QUICK = SamplingConfig(steps=3, precision="float32")
SMALL = tiny.model()
FIRST = Stage(SMALL.denoiser, SMALL.config)


class Sees(torch.nn.Module):
    """Stands in for a second denoiser: it answers the upsampled image that it is shown, and remembers its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.config = super_resolution_denoiser(16, 3, 16, tiny.WIDTH, 0.0)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls: list[Tensor] = []

    def forward(self, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.calls.append(xt)
        return xt[:, 3:6]


def second(denoiser: Any) -> Model:
    config = replace(SMALL.config, size=16, denoiser=denoiser.config, base_size=8, prediction="x0")
    return replace(SMALL, config=config, denoiser=denoiser, base=SMALL)


def enlarged(n: int = 3, sampling: SamplingConfig = QUICK, denoiser: Any = None, **more: Any) -> Tensor:
    model = second(denoiser or Sees())
    seeds = more.pop("seeds", range(n))
    stages = [FIRST, Stage(model.denoiser, model.config)]
    return torch.cat(list(sample_batches(stages, tiny.unit_vectors(n), seeds, sampling, **more)))


# --- what the second denoiser sees ---


def test_without_noise_it_is_the_small_image_upsampled_and_a_plane_of_zeros() -> None:
    small = tiny.random(2, 3, 4, 4)
    shown = low_res_channels(small, 8, torch.zeros(2), tiny.random(2, 3, 4, 4, seed=1))
    torch.testing.assert_close(shown[:, :3], F.interpolate(small, size=8, mode="bilinear"))
    assert not shown[:, 3].any()


def test_each_image_is_as_noisy_as_the_plane_beside_it_tells() -> None:
    small, eps, level = torch.zeros(3, 3, 64, 64), tiny.random(3, 3, 64, 64), torch.tensor([0.0, 0.1, MAX_NOISE])
    shown = low_res_channels(small, 64, level, eps)
    torch.testing.assert_close(shown[:, :3].std((1, 2, 3)), level, atol=0.003, rtol=0)
    torch.testing.assert_close(shown[:, 3].mean((1, 2)), torch.tensor([0.0, 0.1 / MAX_NOISE, 1.0]))


@pytest.mark.parametrize(("size", "patch"), [(16, 1), (48, 1), (64, 2), (96, 2), (128, 4), (256, 4)])
def test_a_network_that_upsamples_works_on_about_the_same_grid_for_every_size(size: int, patch: int) -> None:
    shape = super_resolution_denoiser(size, 3, 16, tiny.WIDTH, 0.0)
    assert shape.patch == patch
    shape.check_size(size)
    answer = Denoiser(shape)(torch.zeros(1, 7, size, size), torch.zeros(1), torch.zeros(1, tiny.WIDTH))
    assert answer.shape == (1, 3, size, size)


# --- learning ---


@pytest.mark.slow
def test_it_learns_to_use_the_small_image() -> None:
    """Stripes whose direction only the small image tells where there is nothing but noise."""
    pixels = torch.zeros(64, 3, 8, 8, dtype=torch.uint8)
    pixels[:32, :, :4], pixels[32:, :, :, :4] = 255, 255
    examples = Examples(pixels, torch.zeros(64, tiny.WIDTH), low_res=pixels[..., ::2, ::2])
    settings = TrainConfig(size=8, width=16, batch=32, images=32 * 60, learning_rate=2e-3, flip=False)
    torch.manual_seed(0)
    network = Denoiser(super_resolution_denoiser(8, 3, 16, tiny.WIDTH, 0.0))
    state = begin_state(network, settings, CosineSchedule())
    loop(state, examples, [])
    x0, eps = normalise(pixels), tiny.random(64, 3, 8, 8)

    def loss(small: Tensor) -> float:
        low_res = low_res_channels(small, 8, torch.zeros(64), torch.zeros_like(small))
        network = with_low_res(state.network.eval(), low_res)
        with torch.no_grad():
            return float(
                denoising_loss(network, CosineSchedule(), x0, examples.conditions, torch.full((64,), 0.8), eps)
            )

    view = x0[..., ::2, ::2]
    assert loss(view) < 0.5 * loss(view.flip(0))


def test_the_small_images_are_mirrored_with_the_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []
    original = low_res_channels

    def spy(small: Tensor, size: int, level: Tensor, eps: Tensor) -> Tensor:
        assert 0 <= level.min() <= level.max() <= MAX_NOISE
        pairs.append((small, level))
        return original(small, size, level, eps)

    monkeypatch.setattr(step, "low_res_channels", spy)
    x0 = tiny.random(16, 3, 8, 8)
    clean: list[Tensor] = []

    def network(xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        clean.append(xt[:, :3])
        return xt[:, :3]

    monkeypatch.setattr(step, "quantile_times", lambda schedule, share, weighting: torch.zeros(len(share)))
    settings = TrainConfig(size=8, condition_drop=0.0, condition_cosine=1.0)
    small = x0[..., ::2, ::2]
    batch = step.Batch(x0, tiny.unit_vectors(16), small)
    step.step_loss(network, CosineSchedule(), batch, settings, Stream(0, torch.arange(16)))
    # At time 0 there is hardly any noise on the large image.
    mirrored = (clean[0] - x0).abs().amax((1, 2, 3)) > 0.1
    assert 0 < mirrored.sum() < 16
    expected = torch.where(mirrored.reshape(-1, 1, 1, 1), small.flip(3), small)
    torch.testing.assert_close(pairs[0][0], expected)
    assert len(set(pairs[0][1].tolist())) == 16


# --- sampling ---


def test_the_second_denoiser_is_shown_what_the_first_one_sampled() -> None:
    small = sample([FIRST], tiny.unit_vectors(3), range(3), QUICK)
    expected = F.interpolate(normalise(small), size=16, mode="bilinear")
    shown = normalise(enlarged(sampling=QUICK.replace(upsample_noise=0.0)))
    torch.testing.assert_close(shown, expected, atol=0.01, rtol=0)


def test_what_it_is_shown_has_the_stated_noise_on_it() -> None:
    network = Sees()
    enlarged(32, QUICK.replace(upsample_noise=0.1), network, seeds=range(32))
    small = normalise(sample([FIRST], tiny.unit_vectors(32), range(32), QUICK))
    at_pixels = network.calls[0][:, 3:6] - F.interpolate(small, size=16, mode="bilinear")
    # Bilinear enlargement by 2 weighs 4 pixels by 9, 3, 3 and 1 sixteenths: the std is 10/16 of that before.
    assert at_pixels[:, :, 1:-1, 1:-1].std() == pytest.approx(0.1 * 10 / 16, rel=0.05)
    torch.testing.assert_close(network.calls[0][:, 6], torch.full((32, 16, 16), 0.1 / MAX_NOISE))


def test_the_words_guide_the_first_stage_and_the_second_takes_few_unguided_steps() -> None:
    network = Sees()
    enlarged(3, QUICK.replace(guidance=5.0), network)
    assert [len(call) for call in network.calls] == [3] * SamplingConfig().upsample_steps


@pytest.mark.parametrize("sampler", ["dpmpp-2m", "ddpm", "heun"])
def test_a_seed_is_the_same_image_in_any_batch(sampler: str) -> None:
    network = tiny.denoiser(super_resolution_denoiser(16, 3, 16, tiny.WIDTH, 0.0))
    together, by_twos = (enlarged(4, QUICK.replace(sampler=sampler, batch=b), network).int() for b in (4, 2))
    assert (together - by_twos).abs().max() <= 1
    other = enlarged(4, QUICK.replace(sampler=sampler), network, seeds=[9, 8, 7, 6]).int()
    assert (together - other).abs().max() > 1


def test_both_stages_are_told_step_by_step_at_one_size() -> None:
    told: list[tuple[int, tuple[int, ...]]] = []
    enlarged(2, on_step=lambda step: told.append((step.number, tuple(step.x0.shape))))
    assert told == [(step, (2, 3, 16, 16)) for step in range(3 + SamplingConfig().upsample_steps)]


def test_the_last_frame_of_a_trajectory_is_the_finished_image() -> None:
    network = tiny.denoiser(super_resolution_denoiser(16, 3, 16, tiny.WIDTH, 0.0))
    generator = Generator(second(network), tiny.FakeEncoder(), device="cpu")  # type: ignore[arg-type]
    (image,) = generator.generate("a rose", sampling=QUICK, trajectory=True)
    assert image.trajectory is not None
    frames = image.trajectory.frames
    assert len(frames) == generator.steps(QUICK) == 3 + SamplingConfig().upsample_steps
    assert frames[-1].x0 == image.image
    assert frames[2].x0.size == (16, 16)


def test_outside_a_mask_the_photograph_stays_in_its_full_size() -> None:
    photo = to_images((tiny.uniform(1, 3, 16, 16) * 255).to(torch.uint8))[0]
    mask = photo.convert("L").point(lambda _: 0)
    mask.paste(255, (0, 0, 8, 16))
    (image,) = to_images(enlarged(1, edit=Edit(photo, mask=mask)))
    right = (8, 0, 16, 16)
    assert image.crop(right) == photo.crop(right)
    assert image.crop((0, 0, 8, 16)) != photo.crop((0, 0, 8, 16))


def test_how_it_upsamples_keeps_what_concerns_all_sampling() -> None:
    sampling = SamplingConfig(guidance=3, sampler="ddim", eta=1.0, threshold="dynamic", precision="bf16", batch=5)
    expected = SamplingConfig(
        guidance=0, steps=SamplingConfig().upsample_steps, threshold="dynamic", precision="bf16", batch=5
    )
    assert sampling.upsampling() == expected


@pytest.mark.parametrize(("scale", "second_scale"), [(-1, -1), (-0.5, -0.5), (-3, -1), (0, 0), (8, 0)])
def test_a_image_without_words_is_upsampled_without_them(scale: float, second_scale: float) -> None:
    assert SamplingConfig(guidance=scale).upsampling().guidance == second_scale


def test_at_a_scale_of_minus_1_nothing_depends_on_the_condition() -> None:
    network = tiny.denoiser(super_resolution_denoiser(16, 3, 16, tiny.WIDTH, 0.0))
    model, sampling = second(network), QUICK.replace(guidance=-1.0)
    one, other = (
        sample([FIRST, Stage(network, model.config)], tiny.unit_vectors(2, seed=seed), [0, 1], sampling).int()
        for seed in (0, 1)
    )
    assert (one - other).abs().max() <= 1


def test_the_first_stage_is_the_small_model_or_the_only_one() -> None:
    model = second(tiny.denoiser(super_resolution_denoiser(16, 3, 16, tiny.WIDTH, 0.0)))
    assert Generator(model, device="cpu").stages[0].config is SMALL.config
    assert Generator(SMALL, device="cpu").stages[0].config is SMALL.config
    assert Generator(SMALL, device="cpu").steps(QUICK) == 3
