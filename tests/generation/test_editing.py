"""The contract of captionless.generation.editing: sampling over a photograph, or over a part of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from captionless.checkpoints.model import Model
from captionless.config.sampling import SamplingConfig
from captionless.data.crop import crop_square
from captionless.diffusion.samplers import SAMPLERS
from captionless.errors import CaptionlessError
from captionless.generation.editing import SMALLEST_STRENGTH, STRENGTH, Edit, keep_outside, mask_tensor, photo_tensor
from captionless.generation.sample import Stage, sample_batches

QUICK = SamplingConfig(steps=4, precision="float32")
SIZE = 8

EVERY = [SamplingConfig(sampler=name) for name in SAMPLERS]
EVERY += [SamplingConfig(sampler="ddim", eta=0.7), SamplingConfig(sampler="heun", churn=20.0)]
EVERY += [SamplingConfig(sampler="ddpm", variance="upper")]
every = pytest.mark.parametrize("way", EVERY, ids=lambda way: "-".join([way.sampler, *way.options]))


def photograph(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mask_of(photo: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """White in the box, black elsewhere."""
    mask = Image.new("L", photo.size)
    mask.paste(255, box)
    return mask


def sampled(edit: Edit, model: Model, sampling: SamplingConfig = QUICK, seeds: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Pictures (n, size, size, channels), as whole numbers that can be subtracted."""
    conditions = tiny.unit_vectors(len(seeds))
    (pixels,) = sample_batches([Stage(model.denoiser, model.config)], conditions, seeds, sampling, edit=edit)
    return pixels.permute(0, 2, 3, 1).int().numpy()


def as_trained(photo: Image.Image, mode: str = "RGB") -> np.ndarray:
    """The photograph as training would see it."""
    return np.asarray(crop_square(photo, SIZE).convert(mode), int).reshape(SIZE, SIZE, -1)


# --- what is sampled ---


@every
def test_outside_the_mask_every_sampler_leaves_the_photograph_as_it_is(way: SamplingConfig, model: Model) -> None:
    photo = photograph()
    mask = mask_of(photo, (8, 0, 20, 24))  # the left half of the central square
    sampling = QUICK.replace(sampler=way.sampler, **way.options)
    pictures = sampled(Edit(photo, mask=mask), model, sampling)
    assert np.abs(pictures[:, :, SIZE // 2 :] - as_trained(photo)[:, SIZE // 2 :]).max() <= 1
    assert np.abs(pictures[:, :, : SIZE // 2] - as_trained(photo)[:, : SIZE // 2]).mean() > 20
    assert np.abs(pictures[0, :, : SIZE // 2] - pictures[1, :, : SIZE // 2]).mean() > 20


@pytest.mark.parametrize(
    "change",
    [{"spacing": "karras"}, {"threshold": "dynamic"}, {"threshold": "none"}, {"guidance_rescale": 1.0}, {"steps": 1}],
    ids=str,
)
def test_outside_the_mask_no_way_of_sampling_changes_the_photograph(change: dict[str, Any], model: Model) -> None:
    photo = photograph()
    for strength in (None, 0.5):
        edit = Edit(photo, strength, mask_of(photo, (8, 0, 20, 24)))
        pictures = sampled(edit, model, QUICK.replace(**change))
        assert np.abs(pictures[:, :, SIZE // 2 :] - as_trained(photo)[:, SIZE // 2 :]).max() <= 1


@every
def test_a_small_strength_keeps_the_photograph(way: SamplingConfig, model: Model) -> None:
    photo = photograph()
    sampling = QUICK.replace(sampler=way.sampler, **way.options)
    near, far = (sampled(Edit(photo, strength), model, sampling) for strength in (1e-3, 1.0))
    assert np.abs(near - as_trained(photo)).max() <= 3
    assert np.abs(far - as_trained(photo)).mean() > 40


def test_more_strength_leaves_less_of_the_photograph(model: Model) -> None:
    photo = photograph()
    distances = [np.abs(sampled(Edit(photo, s), model) - as_trained(photo)).mean() for s in (0.01, 0.1, 0.3, 0.8)]
    assert all(near < far for near, far in pairwise(distances)), distances


def test_at_full_strength_nothing_of_the_photograph_is_left(model: Model) -> None:
    """But for the trace that the schedule leaves at t = 1."""
    one, other = (sampled(Edit(photograph(seed=seed), 1.0), model) for seed in (1, 2))
    assert np.abs(one - other).max() <= 3


def test_a_grey_model_edits_photographs_in_grey() -> None:
    photo, model = photograph(), tiny.model(channels=1)
    assert np.abs(sampled(Edit(photo, 1e-3), model) - as_trained(photo, "L")).max() <= 3
    masked = sampled(Edit(photo, mask=mask_of(photo, (8, 0, 20, 24))), model)
    assert np.abs(masked[:, :, SIZE // 2 :] - as_trained(photo, "L")[:, SIZE // 2 :]).max() <= 1


# --- photographs and masks as tensors ---


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
@pytest.mark.parametrize("size", [(40, 24), (24, 40), (8, 8), (5, 7)])
def test_a_photograph_is_cropped_and_reduced_as_training_images_are(
    size: tuple[int, int], channels: int, mode: str
) -> None:
    photo = photograph(*size)
    tensor = photo_tensor(photo, SIZE, channels)
    assert tensor.shape == (channels, SIZE, SIZE)
    levels = ((tensor + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(levels - as_trained(photo, mode)).max() < 1e-4


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA", "CMYK"])
def test_photographs_of_any_mode_are_taken(mode: str) -> None:
    photo = photograph().convert(mode)
    expected = photo_tensor(photo.convert("RGB"), SIZE, 3)
    assert torch.equal(photo_tensor(photo, SIZE, 3), expected)


def test_a_mask_is_1_where_white_and_exactly_0_where_black() -> None:
    photo = photograph(64, 64)
    tensor = mask_tensor(mask_of(photo, (0, 0, 32, 32)), SIZE)
    expected = torch.zeros(1, SIZE, SIZE)
    expected[:, :4, :4] = 1
    assert torch.equal(tensor, expected)


def test_only_pixels_on_the_edge_of_a_mask_are_blended() -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 20, 64))  # two and a half of its pixels
    assert mask_tensor(mask, SIZE)[0, 0].tolist() == pytest.approx([1, 1, 0.5, 0, 0, 0, 0, 0], abs=1 / 255)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_masks_of_any_mode_are_taken(mode: str) -> None:
    mask = mask_of(photograph(64, 64), (0, 0, 32, 64))
    assert torch.equal(mask_tensor(mask.convert(mode), SIZE), mask_tensor(mask, SIZE))


def test_a_masked_prediction_is_the_photograph_outside_and_the_prediction_inside() -> None:
    known, answer = tiny.random(3, 4, 4, seed=1), tiny.random(2, 3, 4, 4, seed=2)
    mask = torch.zeros(1, 4, 4)
    mask[:, :, :2] = 1
    x0 = keep_outside(known, mask)(answer)
    assert torch.equal(x0[..., :2], answer[..., :2])
    assert torch.equal(x0[..., 2:], known[..., 2:].expand(2, -1, -1, -1))


# --- what can be asked ---


def test_a_photograph_is_half_kept_unless_said_and_a_masked_part_sampled_anew() -> None:
    photo = photograph()
    mask = mask_of(photo, (8, 0, 20, 24))
    assert Edit(photo).start == STRENGTH
    assert Edit(photo, mask=mask).start == 1.0
    assert (Edit(photo, 0.3).start, Edit(photo, 0.3, mask).start) == (0.3, 0.3)


@pytest.mark.parametrize("strength", [0.0, 1e-9, -0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(CaptionlessError, match=rf"`strength` must be from 0.001 to 1, not {strength}"):
        Edit(photograph(), strength)


@pytest.mark.parametrize("spacing", ["even", "karras"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_smallest_strength_gives_an_image_even_in_many_steps(model: Model, sampler: Any, spacing: Any) -> None:
    edit = Edit(photograph(), SMALLEST_STRENGTH)
    images = sampled(edit, model, QUICK.replace(sampler=sampler, spacing=spacing, steps=100), (0,))
    kept = np.asarray(crop_square(photograph(), 8)).astype(int)
    assert np.abs(images[0].astype(int) - kept).mean() < 10


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(CaptionlessError, match=r"`mask` is 24 x 40 pixels and the photograph 40 x 24"):
        Edit(photograph(40, 24), mask=Image.new("L", (24, 40), 255))


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 8, 24)], ids=["nowhere", "outside the square"])
def test_a_mask_that_would_repaint_nothing_is_refused(box: tuple[int, int, int, int]) -> None:
    photo = photograph(40, 24)
    with pytest.raises(CaptionlessError, match="nothing would change"):
        Edit(photo, mask=mask_of(photo, box))
