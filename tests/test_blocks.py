"""The contract of captionless.blocks: the parts of the U-Net."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.blocks import (
    GROUP,
    Downsample,
    Embedding,
    ResidualBlock,
    SelfAttention,
    Upsample,
    group_norm,
    head_width,
    sinusoidal_embedding,
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


def test_the_condition_is_scaled_so_that_its_elements_are_about_1() -> None:
    embedding, seen = Embedding(512, 16), []
    embedding.condition.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    embedding(torch.zeros(4), unit_vectors(4, 512))
    assert seen[0].square().mean() == pytest.approx(1, abs=1e-5)


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


def test_dropout_acts_while_training_only() -> None:
    block = awake(ResidualBlock(16, 8, dropout=0.5))
    x, embedding = random(1, 16, 4, 4), random(1, 8)
    assert not torch.equal(block.train()(x, embedding), block(x, embedding))
    assert torch.equal(block.eval()(x, embedding), block(x, embedding))


# --- attention ---


def naive_attention(layer: SelfAttention, x: Tensor) -> Tensor:
    """Equation 1 of arXiv:1706.03762, head by head, position by position."""
    n, channels, height, width = x.shape
    d = channels // layer.heads
    qkv = layer.qkv(layer.norm(x)).flatten(2)
    out = torch.zeros(n, channels, height * width)
    for i in range(n):
        for head in range(layer.heads):
            q, k, v = qkv[i, 3 * d * head : 3 * d * (head + 1)].split(d)
            out[i, d * head : d * (head + 1)] = v @ torch.softmax(q.T @ k / d**0.5, dim=1).T
    return x + layer.out(out.reshape(x.shape))


@pytest.mark.parametrize("channels", [16, 32, 48, 64])
def test_attention_follows_equation_1_of_its_paper(channels: int) -> None:
    layer, x = awake(SelfAttention(channels)), random(2, channels, 2, 3)
    torch.testing.assert_close(layer(x), naive_attention(layer, x), atol=1e-5, rtol=1e-4)


def test_attention_starts_as_the_identity() -> None:
    x = random(2, 32, 4, 4)
    assert torch.equal(SelfAttention(32)(x), x)


@pytest.mark.parametrize("channels", range(16, 400, 16))
def test_heads_divide_the_channels_of_every_width(channels: int) -> None:
    assert SelfAttention(channels).heads * head_width(channels) == channels


def test_heads_have_32_channels_where_that_divides_and_else_16() -> None:
    assert [head_width(channels) for channels in (32, 64, 192, 16, 48, 240)] == [32, 32, 32, 16, 16, 16]


# --- up and down ---


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
