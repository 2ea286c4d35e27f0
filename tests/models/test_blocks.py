"""The contract of captionless.models.blocks: the parts of the U-Net."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.errors import CaptionlessError
from captionless.models.blocks import (
    GROUP,
    Downsample,
    Embedding,
    ResidualBlock,
    Upsample,
    depth_to_space,
    group_norm,
    scale_condition,
    sinusoidal_embedding,
    space_to_depth,
    zero_weights,
)
from tiny import awake, random, unit_vectors

# --- time and condition ---


def test_a_time_becomes_cosines_and_sines_from_slow_to_fast() -> None:
    embedding = sinusoidal_embedding(torch.tensor([0.3]), frequencies=3, fastest=100.0)
    angles = [0.3 * frequency for frequency in (1, 10, 100)]
    expected = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
    assert embedding[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_neighbouring_times_of_a_1000_step_sampler_are_told_apart() -> None:
    embedding = sinusoidal_embedding(torch.linspace(0, 1, 1001))
    assert embedding.shape == (1001, 128)
    assert embedding.diff(dim=0).norm(dim=1).min() > 0.1


def test_times_are_embedded_in_float32_whatever_their_format() -> None:
    assert sinusoidal_embedding(torch.tensor([0.5], dtype=torch.float64)).dtype == torch.float32
    assert sinusoidal_embedding(torch.tensor([0.5], dtype=torch.bfloat16)).dtype == torch.float32


def test_time_and_condition_both_change_the_embedding() -> None:
    embedding = awake(Embedding(8, 32))
    t, condition = torch.tensor([0.2, 0.8]), unit_vectors(2)
    first = embedding(t[:1], condition[:1])
    assert first.shape == (1, 32)
    assert (embedding(t[1:], condition[:1]) - first).abs().max() > 0.01
    assert (embedding(t[:1], condition[1:]) - first).abs().max() > 0.01


def test_a_crop_changes_the_embedding_and_the_whole_image_does_not() -> None:
    embedding = awake(Embedding(8, 32, crops=True))
    given = (torch.tensor([0.2, 0.2]), unit_vectors(1).repeat(2, 1))
    plain = embedding(*given)
    torch.testing.assert_close(embedding(*given, torch.zeros(2, 3)), plain)
    for number in range(3):
        assert (embedding(*given, 0.3 * torch.eye(3)[number].repeat(2, 1)) - plain).abs().max() > 0.01
    with pytest.raises(CaptionlessError, match="Build it with `crops=True`"):
        Embedding(8, 32)(*given, torch.zeros(2, 3))


def test_the_condition_is_scaled_so_that_its_elements_are_about_1() -> None:
    embedding, seen = Embedding(512, 16), []
    embedding.condition.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    embedding(torch.zeros(4), unit_vectors(4, 512))
    assert seen[0].square().mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("frequencies", [2, 4, 64])
def test_any_number_of_sines_and_cosines_may_tell_the_time(frequencies: int) -> None:
    t = torch.linspace(0, 1, 11)
    embedding = sinusoidal_embedding(t, frequencies)
    assert embedding.shape == (11, 2 * frequencies)
    torch.testing.assert_close(embedding[:, 0], t.cos())  # the slowest is the same
    torch.testing.assert_close(embedding[:, -1], (1000 * t).sin(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("numbers", [1, 2, 7])
def test_the_time_may_be_told_in_another_way(numbers: int) -> None:
    def powers(t: Tensor) -> Tensor:
        return t[:, None] ** torch.arange(1, numbers + 1)

    embedding, seen = Embedding(8, 32, powers), []
    embedding.time.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    assert embedding(torch.tensor([0.5, 0.2]), unit_vectors(2)).shape == (2, 32)
    torch.testing.assert_close(seen[0], powers(torch.tensor([0.5, 0.2])))


@pytest.mark.parametrize("width", [4, 512])
def test_unit_vectors_are_scaled_so_that_their_elements_are_about_1_and_nothing_stays_nothing(width: int) -> None:
    assert scale_condition(unit_vectors(3, width)).square().mean(1).tolist() == pytest.approx([1, 1, 1])
    assert not scale_condition(torch.zeros(2, width)).any()


# --- normalisation ---


@pytest.mark.parametrize("channels", [16, 48, 96])
def test_a_group_always_has_the_same_number_of_channels(channels: int) -> None:
    assert channels / group_norm(channels).num_groups == GROUP


# --- residual blocks ---


def test_a_residual_block_starts_as_the_identity() -> None:
    x = random(2, 16, 4, 4)
    assert torch.equal(ResidualBlock(16, 8)(x, random(2, 8)), x)


def test_the_embedding_scales_and_shifts_every_channel() -> None:
    block = awake(ResidualBlock(16, 8))
    x, embedding = random(2, 16, 4, 4), random(2, 8)
    pairs = block.modulation(embedding).reshape(2, 16, 2)
    scale, shift = pairs[:, :, 0, None, None], pairs[:, :, 1, None, None]
    h = block.conv1(F.silu(block.norm1(x)))
    expected = x + block.conv2(F.silu(block.norm2(h) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, embedding), expected)


@pytest.mark.parametrize("activation", [F.gelu, F.relu, torch.tanh])
def test_normalisation_and_activation_of_a_block_may_be_others(activation: Callable[[Tensor], Tensor]) -> None:
    block = awake(ResidualBlock(16, 8, norm=lambda channels: nn.GroupNorm(1, channels), activation=activation))
    x, embedding = random(2, 16, 4, 4), random(2, 8)
    scale, shift = block.modulation(embedding).reshape(2, 16, 2)[..., None, None].unbind(2)
    h = block.conv1(activation(F.group_norm(x, 1, block.norm1.weight, block.norm1.bias)))
    h = F.group_norm(h, 1, block.norm2.weight, block.norm2.bias) * (1 + scale) + shift
    torch.testing.assert_close(block(x, embedding), x + block.conv2(activation(h)))


def test_dropout_acts_while_training_only() -> None:
    block = awake(ResidualBlock(16, 8, dropout=0.5))
    x, embedding = random(1, 16, 4, 4), random(1, 8)
    assert not torch.equal(block.train()(x, embedding), block(x, embedding))
    assert torch.equal(block.eval()(x, embedding), block(x, embedding))


# --- up and down ---


@pytest.mark.parametrize("side", [2, 4])
def test_pixels_are_rearranged_on_cuda_as_by_pytorch_but_channels_last(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = random(2, 3, 4 * side, 8 * side)
    deep = F.pixel_unshuffle(x, side)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    for layout in (torch.contiguous_format, torch.channels_last):
        there, back = (
            space_to_depth(x.to(memory_format=layout), side),
            depth_to_space(deep.to(memory_format=layout), side),
        )
        for found, expected in ((there, deep), (back, x)):
            assert torch.equal(found, expected)
            assert found.is_contiguous(memory_format=torch.channels_last)


def test_halving_and_doubling_the_size_can_lose_nothing() -> None:
    down, up, x = Downsample(3, 12), Upsample(12, 3), random(2, 3, 6, 6)
    for conv in (down[1], up[0]):
        assert isinstance(conv, nn.Conv2d)
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    assert down(x).shape == (2, 12, 3, 3)
    assert torch.equal(up(down(x)), x)


@pytest.mark.parametrize(("part", "shape"), [(Downsample(4, 7), (2, 7, 3, 3)), (Upsample(4, 7), (2, 7, 12, 12))])
def test_up_and_down_change_channels_as_asked(part: nn.Module, shape: tuple[int, ...]) -> None:
    assert part(random(2, 4, 6, 6)).shape == shape


def test_zeroed_weights_answer_zero() -> None:
    layer = nn.Linear(3, 2)
    zero_weights(layer)
    assert not layer(random(5, 3)).any()
