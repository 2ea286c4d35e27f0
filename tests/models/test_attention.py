"""The contract of captionless.models.attention: the attention layers of the U-Net."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captionless.models.attention import COARSE, CrossAttention, SelfAttention, head_width
from tiny import awake, random


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


def test_with_identity_each_position_attends_to_itself_only() -> None:
    """Equation 9 of arXiv:2403.17377: the value, in place of the attention matrix times the values."""
    layer, x = awake(SelfAttention(32)), random(2, 32, 2, 3)
    value = layer.qkv(layer.norm(x))[:, 2 * 32 :]
    perturbed = layer(x, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(perturbed[1], (x + layer.out(value))[1])
    torch.testing.assert_close(perturbed[0], layer(x)[0])
    assert (perturbed[1] - layer(x)[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("side", "kept"), [(COARSE, False), (COARSE + 1, True)])
def test_fine_feature_maps_keep_their_attention(side: int, kept: bool) -> None:
    layer, x = awake(SelfAttention(32)), random(1, 32, side, side)
    assert torch.equal(layer(x, torch.ones(1)), layer(x)) == kept


def test_attention_starts_as_the_identity() -> None:
    x = random(2, 32, 4, 4)
    assert torch.equal(SelfAttention(32)(x), x)


@pytest.mark.parametrize("channels", range(16, 400, 16))
def test_heads_divide_the_channels_of_every_width(channels: int) -> None:
    assert SelfAttention(channels).heads * head_width(channels) == channels


def test_heads_have_32_channels_where_that_divides_and_else_16() -> None:
    assert [head_width(channels) for channels in (32, 64, 192, 16, 48, 240)] == [32, 32, 32, 16, 16, 16]


def naive_cross_attention(layer: CrossAttention, x: Tensor, tokens: Tensor) -> Tensor:
    """The same equation, with queries from positions and keys and values from tokens."""
    n, channels, height, width = x.shape
    d = channels // layer.heads
    q, kv = layer.query(layer.norm(x)).flatten(2), layer.key_value(tokens)
    out = torch.zeros(n, channels, height * width)
    for i in range(n):
        for head in range(layer.heads):
            k, v = kv[i, :, 2 * d * head : 2 * d * (head + 1)].split(d, 1)
            scores = k @ q[i, d * head : d * (head + 1)] / d**0.5  # a row a token, a column a position
            out[i, d * head : d * (head + 1)] = v.T @ torch.softmax(scores, dim=0)
    return x + layer.out(out.reshape(x.shape))


@pytest.mark.parametrize("channels", [16, 32, 48, 64])
@pytest.mark.parametrize("tokens", [1, 5])
def test_cross_attention_follows_equation_1_of_its_paper(channels: int, tokens: int) -> None:
    layer, x = awake(CrossAttention(channels, 12)), random(2, channels, 2, 3)
    words = random(2, tokens, 12, seed=1)
    torch.testing.assert_close(layer(x, words), naive_cross_attention(layer, x, words), atol=1e-5, rtol=1e-4)


def test_cross_attention_starts_as_the_identity() -> None:
    x = random(2, 32, 4, 4)
    assert torch.equal(CrossAttention(32, 12)(x, random(2, 3, 12)), x)


def test_the_order_of_the_tokens_means_nothing() -> None:
    layer, x, words = awake(CrossAttention(32, 12)), random(2, 32, 2, 3), random(2, 5, 12, seed=1)
    torch.testing.assert_close(layer(x, words.flip(1)), layer(x, words), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [SelfAttention, lambda channels, norm: CrossAttention(channels, 12, norm)])
def test_attention_may_be_normalised_in_another_way(make: Callable[..., nn.Module]) -> None:
    assert nn.BatchNorm2d in {type(part) for part in make(32, nn.BatchNorm2d).modules()}
