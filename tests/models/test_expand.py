"""The contract of captionless.models.expand: a larger denoiser starts with what the small one knows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from captionless.errors import CaptionlessError
from captionless.models.expand import expand
from captionless.models.unet import Denoiser, DenoiserConfig
from tiny import SHAPE, WIDTH, random, uniform, unit_vectors

TOKENS = replace(SHAPE, tokens=3)


def inputs(size: int = 8, n: int = 2, channels: int = 3, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    return random(n, channels, size, size), uniform(n), unit_vectors(n, width)


@torch.no_grad()
def outputs(network: Denoiser, *given: Tensor, crop: Tensor | None = None) -> Tensor:
    """The answer in float64, so that "exactly" means to 13 digits in whatever order it is summed."""
    return network.double()(*(value.double() for value in given), crop=None if crop is None else crop.double())


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("widths", [(16, 48), (32, 64), (32, 96), (48, 80)])
def test_a_wider_network_computes_exactly_what_the_narrow_one_did(widths: tuple[int, int], tokens: int) -> None:
    shape = replace(SHAPE, width=widths[0], multipliers=(1, 3), blocks=2, tokens=tokens)
    small = tiny.denoiser(shape)
    large = expand(small, replace(shape, width=widths[1]))
    assert large.config.width == widths[1]
    torch.testing.assert_close(outputs(large, *inputs()), outputs(small, *inputs()), atol=1e-11, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 4), (2, 4)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("input_skip", [False, True])
def test_a_larger_patch_computes_on_reduced_images_what_the_small_one_did(
    old: int, new: int, channels: int, input_skip: bool
) -> None:
    small = tiny.denoiser(patch=old, channels=channels, input_skip=input_skip)
    large = expand(small, replace(small.config, patch=new))
    xt, t, condition = inputs(4 * new, channels=channels)
    factor = new // old
    reduced = outputs(small, F.avg_pool2d(xt.double(), factor), t, condition)
    expected = reduced.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    torch.testing.assert_close(outputs(large, xt, t, condition), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("width", [20, 5])
def test_another_encoder_leaves_the_unconditional_answer_as_it_was(width: int, tokens: int) -> None:
    small = tiny.denoiser(tokens=tokens)
    large = expand(small, replace(small.config, condition_width=width))
    xt, t, _ = inputs()
    null_small, null_large = torch.zeros(2, WIDTH), torch.zeros(2, width)
    torch.testing.assert_close(outputs(large, xt, t, null_large), outputs(small, xt, t, null_small), atol=1e-11, rtol=0)


@pytest.mark.parametrize("width", [16, 48])
def test_tokens_may_be_added_and_say_nothing_at_first(width: int) -> None:
    shape = replace(SHAPE, width=16, multipliers=(1, 3), blocks=2, attention=(0, 1))
    small = tiny.denoiser(shape)
    large = expand(small, replace(shape, tokens=3, width=width))
    assert large.tokens is not None
    torch.testing.assert_close(outputs(large, *inputs()), outputs(small, *inputs()), atol=1e-11, rtol=0)


@pytest.mark.parametrize("width", [16, 48])
def test_an_input_skip_may_be_added_and_passes_nothing_at_first(width: int) -> None:
    small = tiny.denoiser(width=16, patch=2)
    large = expand(small, replace(small.config, input_skip=True, width=width))
    assert large.input_skip is not None
    torch.testing.assert_close(outputs(large, *inputs(16)), outputs(small, *inputs(16)), atol=1e-11, rtol=0)


@pytest.mark.parametrize("width", [16, 48])
@pytest.mark.parametrize("known", [False, True])
def test_a_network_may_be_told_of_crops_from_now_on_and_keeps_what_it_knows_of_them(known: bool, width: int) -> None:
    small = tiny.denoiser(width=16, crops=known)
    large = expand(small, replace(small.config, crops=True, width=width))
    xt, t, condition = inputs()
    crop = random(2, 3)
    before = outputs(small, xt, t, condition, crop=crop if known else None)
    torch.testing.assert_close(outputs(large, xt, t, condition, crop=crop), before, atol=1e-11, rtol=0)


def test_an_input_skip_is_not_taken_away() -> None:
    small = tiny.denoiser(input_skip=True)
    with pytest.raises(CaptionlessError, match="cannot be expanded"):
        expand(small, replace(small.config, input_skip=False))


@pytest.mark.parametrize("tokens", [0, 2, 4])
def test_another_number_of_tokens_is_not_expansion(tokens: int) -> None:
    small = tiny.denoiser(tokens=3)
    with pytest.raises(CaptionlessError, match="`tokens` may be added if the model has none"):
        expand(small, replace(small.config, tokens=tokens))


def test_another_encoder_of_the_same_width_keeps_the_answer() -> None:
    small = tiny.denoiser()
    assert torch.equal(outputs(expand(small, SHAPE), *inputs()), outputs(small, *inputs()))


def test_width_size_and_encoder_may_change_at_once() -> None:
    small = tiny.denoiser()
    large = expand(small, replace(SHAPE, width=48, patch=2, condition_width=20, dropout=0.1)).eval()
    xt, t, _ = inputs(16)
    reduced = outputs(small, F.avg_pool2d(xt.double(), 2), t, torch.zeros(2, WIDTH))
    expected = reduced.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(outputs(large, xt, t, torch.zeros(2, 20)), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("shape", [SHAPE, TOKENS, replace(SHAPE, input_skip=True)])
def test_all_of_an_expanded_network_learns(shape: DenoiserConfig) -> None:
    large = expand(tiny.denoiser(shape), replace(shape, width=32)).train()
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


def test_expanding_leaves_the_small_network_untouched() -> None:
    small = tiny.denoiser().requires_grad_(False)
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    large = expand(small, replace(SHAPE, width=48, patch=2, condition_width=20))
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
        {"activation": "gelu"},
        {"time_features": 64},
    ],
)
def test_what_is_not_expansion_is_refused(wrong: dict[str, int]) -> None:
    small = Denoiser(replace(SHAPE, width=32, patch=2))
    with pytest.raises(CaptionlessError, match="cannot be expanded"):
        expand(small, replace(small.config, **wrong))


def test_levels_may_widen_by_different_factors() -> None:
    small = tiny.denoiser(replace(SHAPE, width=16, multipliers=(1, 2, 3), attention=()))
    large = expand(small, replace(small.config, width=32, multipliers=(1, 1, 2)))
    torch.testing.assert_close(outputs(large, *inputs()), outputs(small, *inputs()), atol=1e-11, rtol=0)
    with pytest.raises(CaptionlessError, match="cannot be expanded"):
        expand(small, replace(small.config, width=32, multipliers=(1, 1, 1)))
    with pytest.raises(CaptionlessError, match="cannot be expanded"):
        expand(small, replace(small.config, width=32, multipliers=(1, 2)))


def test_a_width_that_cuts_the_attention_heads_differently_is_refused_with_one_that_does_not() -> None:
    small = Denoiser(replace(SHAPE, width=16, multipliers=(1, 3)))
    with pytest.raises(CaptionlessError, match="Try `width=48`"):
        expand(small, replace(small.config, width=32))
    expand(small, replace(small.config, width=48))
