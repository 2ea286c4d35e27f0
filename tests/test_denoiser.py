"""The contract of captionless.denoiser: the U-Net, and how it grows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from captionless.blocks import ResidualBlock, SelfAttention
from captionless.denoiser import Denoiser, DenoiserConfig, default_patch, grow, parameter_count
from captionless.errors import CaptionlessError
from tiny import SHAPE, WIDTH, random, uniform, unit_vectors


def inputs(size: int = 8, n: int = 2, channels: int = 3, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    return random(n, channels, size, size), uniform(n), unit_vectors(n, width)


# --- shapes ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 64, 128])
def test_v_has_the_shape_of_the_picture(size: int, channels: int) -> None:
    shape = DenoiserConfig(channels, default_patch(size), width=16, blocks=1, condition_width=WIDTH)
    shape.check_size(size)
    v = tiny.denoiser(shape)(*inputs(size, 1, channels))
    assert v.shape == (1, channels, size, size)
    assert v.isfinite().all()


@pytest.mark.parametrize("width", [16, 48, 64, 80, 112])
def test_every_width_that_the_config_allows_can_be_computed(width: int) -> None:
    network = Denoiser(replace(SHAPE, width=width, multipliers=(1, 3), condition_width=WIDTH))
    assert network(*inputs()).shape == (2, 3, 8, 8)


def test_self_attention_is_put_at_the_levels_that_ask_for_it() -> None:
    network = Denoiser(replace(SHAPE, multipliers=(1, 1, 1), attention=(2,)))
    for way in (network.down, network.up):
        assert [any(isinstance(part, SelfAttention) for part in level.children()) for level in way] == [0, 0, 1]


def test_parameters_are_counted() -> None:
    assert parameter_count(torch.nn.Linear(3, 5)) == 20


# --- what the answer depends on ---


def test_it_answers_zero_before_it_has_learned_anything() -> None:
    assert not Denoiser(SHAPE)(*inputs()).any()


def test_each_picture_is_denoised_alone(denoiser: Denoiser) -> None:
    xt, t, condition = inputs(n=3)
    together = denoiser(xt, t, condition)
    for i in range(3):
        alone = denoiser(xt[i : i + 1], t[i : i + 1], condition[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-4)


def test_the_answer_depends_on_picture_time_and_condition(denoiser: Denoiser) -> None:
    xt, t, condition = inputs()
    v = denoiser(xt, t, condition)
    for changed in ((xt.flip(0), t, condition), (xt, t.flip(0), condition), (xt, t, condition.flip(0))):
        assert (denoiser(*changed) - v).abs().max() > 0.01


def modulations(network: Denoiser) -> dict[str, torch.nn.Linear]:
    return {name: part.modulation for name, part in network.named_modules() if isinstance(part, ResidualBlock)}


@pytest.mark.parametrize("block", list(modulations(Denoiser(SHAPE))))
def test_time_and_condition_reach_every_block(block: str, denoiser: Denoiser) -> None:
    """With the modulation of all other blocks switched off, the answer still depends on both."""
    for name, modulation in modulations(denoiser).items():
        if name != block:
            torch.nn.init.zeros_(modulation.weight)
    xt, t, condition = inputs()
    v = denoiser(xt, t, condition)
    assert (denoiser(xt, t.flip(0), condition) - v).abs().max() > 1e-4
    assert (denoiser(xt, t, condition.flip(0)) - v).abs().max() > 1e-4


def test_there_are_blocks_at_every_scale_of_both_ways() -> None:
    names = list(modulations(Denoiser(replace(SHAPE, blocks=2))))
    assert names == [
        *("down.0.0", "down.0.1", "down.1.0", "down.1.2", "middle.0", "middle.1"),
        *("up.0.0", "up.0.1", "up.1.0", "up.1.2"),
    ]


def test_every_weight_is_trained(denoiser: Denoiser) -> None:
    denoiser(*inputs()).square().mean().backward()
    untrained = [name for name, weight in denoiser.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A key's bias adds the same to all scores of a row, which softmax takes out again: it is the one exception.
    assert [name for name in untrained if "qkv.bias" not in name] == []


def test_all_weights_start_to_learn_within_a_few_steps() -> None:
    """Layers that start at zero must not keep others at zero."""
    network = Denoiser(SHAPE).train()
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (network(*inputs()) - 1).square().mean().backward()
        optimizer.step()
    assert [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])] == []


# --- sizes ---


def test_sides_must_divide_by_the_total_downsampling() -> None:
    shape = DenoiserConfig(patch=4, multipliers=(1, 2, 4))
    assert shape.total_downsampling == 16
    for size in (16, 64, 80):
        shape.check_size(size)
    for size, advice in ((50, 48), (63, 64), (8, 16), (0, 16)):
        with pytest.raises(CaptionlessError, match=f"--size {size} .*Try --size {advice}"):
            shape.check_size(size)


def test_the_default_patch_leaves_a_grid_of_at_least_16_and_suits_its_size() -> None:
    assert [default_patch(size) for size in (8, 16, 24, 32, 48, 64, 80, 128)] == [1, 1, 1, 2, 2, 4, 4, 4]
    for size in range(4, 260, 4):
        DenoiserConfig(patch=default_patch(size)).check_size(size)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"width": 40},
        {"width": -16},
        {"channels": 0},
        {"patch": 0},
        {"blocks": 0},
        {"condition_width": 0},
        {"multipliers": ()},
        {"multipliers": (1, 0)},
    ],
)
def test_shapes_that_no_network_has_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(CaptionlessError, match=r"multiple of 16|at least 1"):
        replace(SHAPE, **wrong)


# --- growing ---


@torch.no_grad()
def outputs(network: Denoiser, *given: Tensor) -> Tensor:
    """The answer in float64, so that "exactly" means to 13 digits in whatever order it is summed."""
    return network.double()(*(value.double() for value in given))


@pytest.mark.parametrize("widths", [(16, 48), (32, 64), (32, 96), (48, 80)])
def test_a_wider_network_computes_exactly_what_the_narrow_one_did(widths: tuple[int, int]) -> None:
    shape = replace(SHAPE, width=widths[0], multipliers=(1, 3), blocks=2)
    small = tiny.denoiser(shape)
    large = grow(small, replace(shape, width=widths[1]))
    assert large.config.width == widths[1]
    torch.testing.assert_close(outputs(large, *inputs()), outputs(small, *inputs()), atol=1e-11, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 4), (2, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_larger_patch_computes_on_reduced_pictures_what_the_small_one_did(old: int, new: int, channels: int) -> None:
    small = tiny.denoiser(patch=old, channels=channels)
    large = grow(small, replace(small.config, patch=new))
    xt, t, condition = inputs(4 * new, channels=channels)
    factor = new // old
    reduced = outputs(small, F.avg_pool2d(xt.double(), factor), t, condition)
    expected = reduced.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    torch.testing.assert_close(outputs(large, xt, t, condition), expected, atol=1e-11, rtol=0)


def test_another_encoder_leaves_the_unconditional_answer_as_it_was() -> None:
    small = tiny.denoiser()
    large = grow(small, replace(SHAPE, condition_width=20))
    xt, t, _ = inputs()
    null_small, null_large = torch.zeros(2, WIDTH), torch.zeros(2, 20)
    torch.testing.assert_close(outputs(large, xt, t, null_large), outputs(small, xt, t, null_small), atol=1e-11, rtol=0)


def test_another_encoder_of_the_same_width_keeps_the_answer() -> None:
    small = tiny.denoiser()
    assert torch.equal(outputs(grow(small, SHAPE), *inputs()), outputs(small, *inputs()))


def test_width_size_and_encoder_may_change_at_once() -> None:
    small = tiny.denoiser()
    large = grow(small, replace(SHAPE, width=48, patch=2, condition_width=20, dropout=0.1)).eval()
    xt, t, _ = inputs(16)
    reduced = outputs(small, F.avg_pool2d(xt.double(), 2), t, torch.zeros(2, WIDTH))
    expected = reduced.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(outputs(large, xt, t, torch.zeros(2, 20)), expected, atol=1e-11, rtol=0)


def test_all_of_a_grown_network_learns() -> None:
    large = grow(tiny.denoiser(), replace(SHAPE, width=32)).train()
    before = {name: weight.detach().clone() for name, weight in large.named_parameters()}
    optimizer = torch.optim.Adam(large.parameters(), 1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        (large(*inputs()) - 1).square().mean().backward()
        optimizer.step()
    for name, weight in large.named_parameters():
        old_rows = len(weight) // 2
        assert not torch.equal(weight[:old_rows], before[name][:old_rows]), name
        if "head" not in name:
            assert not torch.equal(weight[old_rows:], before[name][old_rows:]), name


def test_growing_leaves_the_small_network_untouched() -> None:
    small = tiny.denoiser().requires_grad_(False)
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    large = grow(small, replace(SHAPE, width=48, patch=2, condition_width=20))
    for name, weight in small.state_dict().items():
        assert torch.equal(weight, before[name])
    assert all(weight.requires_grad for weight in large.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 16},
        {"patch": 1},
        {"patch": 3},
        {"channels": 1},
        {"multipliers": (1, 1, 2)},
        {"blocks": 2},
        {"attention": (0,)},
    ],
)
def test_what_is_not_growth_is_refused(wrong: dict[str, int]) -> None:
    small = Denoiser(replace(SHAPE, width=32, patch=2))
    with pytest.raises(CaptionlessError, match="cannot grow"):
        grow(small, replace(small.config, **wrong))


def test_a_width_that_cuts_the_attention_heads_differently_is_refused_with_one_that_does_not() -> None:
    small = Denoiser(replace(SHAPE, width=16, multipliers=(1, 3)))
    with pytest.raises(CaptionlessError, match="Try --width 48"):
        grow(small, replace(small.config, width=32))
    grow(small, replace(small.config, width=48))
