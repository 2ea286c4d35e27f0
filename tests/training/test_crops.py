"""The contract of captionless.training.crops: what is cut from an image, and what the network is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from captionless.config.training import TrainConfig
from captionless.data.arrays import denormalise, normalise, read_arrays
from captionless.diffusion.schedules import CosineSchedule
from captionless.models.unet import Denoiser
from captionless.training.crops import cut, mirrored, random_crops, source_size
from captionless.training.dataset import Examples
from captionless.training.randomness import Stream
from captionless.training.state import begin_state
from captionless.training.step import Batch, TrainStep, step_loss

FLOWERS = Path(__file__).parents[2] / "examples" / "flowers"
CONFIG = TrainConfig(size=8, width=16, batch=4, images=24, precision="float32", crop=0.6)
WHOLE = torch.zeros(1, 3)


def crop(side: float, right: float = 0.0, down: float = 0.0) -> Tensor:
    return torch.tensor([[np.log(side), right, down]], dtype=torch.float32)


def drawn(config: TrainConfig, n: int = 20_000) -> Tensor:
    return random_crops(Stream(config.seed, torch.arange(n)), config)


@pytest.mark.parametrize("side", [1.0, 0.8, 0.6, 0.31])
@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, -1.0), (-0.4, 0.7)])
@pytest.mark.parametrize(("source", "size"), [(48, 32), (96, 32), (24, 24)])
def test_a_crop_is_what_pillow_cuts_and_resizes_up_to_rounding(
    side: float, place: tuple[float, float], source: int, size: int
) -> None:
    """The worst case: noise, whose edges overshoot everywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (source, source, 3), dtype=np.uint8)
    right, down = (share * (1 - side) / 2 for share in place)
    left, top = source * (0.5 + right - side / 2), source * (0.5 + down - side / 2)
    box = (max(0, left), max(0, top), min(source, left + side * source), min(source, top + side * source))
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS, box))
    images = normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    found = denormalise(cut(images, crop(side, right, down), size))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.abs(found.astype(int) - expected).mean() < 0.3


def test_whole_photographs_are_those_that_a_run_without_crops_sees_up_to_rounding() -> None:
    found = read_arrays(FLOWERS, [32])
    rows = range(0, len(found.names), 10)
    source, pixels = (torch.from_numpy(found.array(size, rows)).permute(0, 3, 1, 2) for size in (source_size(32), 32))
    whole = denormalise(cut(normalise(source), torch.zeros(len(rows), 3), 32))
    assert (whole.int() - pixels.int()).abs().max() <= 1


def test_the_wanted_share_is_cropped_and_every_crop_lies_within_the_image() -> None:
    config = CONFIG.replace(crop_probability=0.3)
    side, right, down = drawn(config).unbind(1)
    whole = side == 0
    assert (~whole).float().mean() == pytest.approx(0.3, abs=0.01)
    assert not right[whole].any()
    assert not down[whole].any()
    side = side[~whole].exp()
    assert (side.min(), side.max()) == (pytest.approx(0.6, abs=1e-3), pytest.approx(1, abs=1e-3))
    assert side.mean() == pytest.approx(0.8, abs=0.01)
    for offset in (right[~whole], down[~whole]):
        share = offset / ((1 - side) / 2)
        assert share.abs().max() < 1.001
        assert share.mean() == pytest.approx(0, abs=0.03)
        assert share.std() == pytest.approx(3**-0.5, abs=0.01)


def test_a_crop_is_decided_by_the_seed_and_the_position_alone() -> None:
    whole = drawn(CONFIG, 100)
    assert torch.equal(random_crops(Stream(0, torch.arange(30, 60)), CONFIG), whole[30:60])
    assert not torch.equal(drawn(CONFIG.replace(seed=1), 100), whole)


def test_a_mirrored_crop_lies_on_the_other_side() -> None:
    images, crops = tiny.uniform(2, 3, 24, 24), crop(0.7, 0.12, -0.05).repeat(2, 1)
    told = mirrored(crops, torch.tensor([True, False]))
    assert torch.equal(told[1], crops[1])
    torch.testing.assert_close(cut(images.flip(3), told[:1], 16)[0], cut(images, crops, 16)[0].flip(2))


class Spy(Denoiser):
    """Remembers what the network was given."""

    def forward(
        self,
        xt: Tensor,
        t: Tensor,
        condition: Tensor,
        identity: Tensor | None = None,
        *,
        crop: Tensor | None = None,
    ) -> Tensor:
        self.seen: dict[str, Any] = {"xt": xt, "crop": crop}
        return super().forward(xt, t, condition, identity, crop=crop)


def test_the_network_is_told_what_it_sees_also_if_the_image_is_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CosineSchedule, "alpha_sigma", lambda _, t: (torch.ones_like(t), torch.zeros_like(t)))
    images, stream = tiny.uniform(16, 3, 12, 12, seed=5), Stream(0, torch.arange(16))
    crops = random_crops(stream, CONFIG)
    batch = Batch(cut(images, crops, 8), tiny.unit_vectors(16), crops=crops)
    network = Spy(tiny.denoiser(crops=True).config)
    step_loss(network, CosineSchedule(), batch, CONFIG.replace(batch=16), stream)
    xt, told = network.seen["xt"], network.seen["crop"]
    flipped = (told[:, 1] == -crops[:, 1]) & (crops[:, 1] != 0)
    assert 0 < flipped.sum() < (crops[:, 1] != 0).sum()
    for i in range(16):
        source = images[i : i + 1].flip(3) if flipped[i] else images[i : i + 1]
        views = [cut(one, told[i : i + 1], 8)[0] for one in (source, source.flip(3))]
        assert any(torch.allclose(xt[i], view, atol=1e-5) for view in views[: 1 if told[i].any() else 2])


def test_both_images_of_a_super_resolution_stage_show_the_same_crop() -> None:
    source = (256 * tiny.uniform(6, 3, 24, 24)).byte()
    examples = Examples(source[..., :16, :16], tiny.unit_vectors(6), low_res=source[..., :8, :8], source=source)
    shape = tiny.denoiser(low_res_channels=4, crops=True).config
    step = TrainStep(begin_state(Denoiser(shape), CONFIG.replace(size=16), CosineSchedule()), examples)
    step.feed.load(range(4), 0)
    batch = step._batch(slice(0, 4), Stream(0, torch.arange(4)))
    assert batch.crops is not None
    assert batch.low_res is not None
    assert batch.crops.any()
    images = normalise(step.feed.pixels)
    assert torch.equal(batch.x0, cut(images, batch.crops, 16))
    assert torch.equal(batch.low_res, cut(images, batch.crops, 8))
    assert step.feed.low_res is None
