"""The building blocks of the U-Net: embeddings, residual blocks, attention, down- and upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUP = 16
"""Channels per normalisation group. A fixed size (not a fixed count) lets a network be widened without changing the
statistics of the groups it already has."""

HEAD = 32
"""Channels per attention head; fixed for the same reason."""


def head_width(channels: int) -> int:
    """Return the channels of each attention head: ``HEAD``, or ``GROUP`` if that does not divide."""
    return HEAD if channels % HEAD == 0 else GROUP


def sinusoidal_embedding(t: Tensor, frequencies: int = 64, fastest: float = 1000.0) -> Tensor:
    """Return cosines and sines of ``t``, (n,), at ``frequencies`` from 1 to ``fastest``: (n, 2 * frequencies), float32.

    The positional encoding of "Attention is all you need" (arXiv:1706.03762, section 3.5), used for
    diffusion time since DDPM (arXiv:2006.11239, app. B).
    """
    exponents = torch.arange(frequencies, device=t.device, dtype=torch.float32) / (frequencies - 1)
    angles = t.float()[:, None] * fastest ** exponents[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def zero_weights(layer: nn.Module) -> None:
    """Zero-initialise a layer, so that its residual branch contributes nothing at first."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with ``GROUP`` channels per group (arXiv:1803.08494)."""
    return nn.GroupNorm(max(1, channels // GROUP), channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection; the embedding scales and shifts between them.

    Time and condition reach every layer as scale and shift of the second normalisation (adaptive group normalisation,
    arXiv:2105.05233, section 3). The arguments are those of ``Parts.block``; ``embedding`` is its width.
    """

    def __init__(
        self,
        channels: int,
        embedding: int,
        dropout: float = 0.0,
        norm: Callable[[int], nn.Module] = group_norm,
        activation: Callable[[Tensor], Tensor] = F.silu,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.norm2 = norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # The block starts as the identity, so that a deep stack is trainable from the first step.
        zero_weights(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (n, channels, h, w) and (n, embedding) to (n, channels, h, w)."""
        # Pairs (scale, shift) lie side by side, so that a wider network appends rows instead of moving them.
        scale, shift = self.modulation(embedding).unflatten(1, (-1, 2))[..., None, None].unbind(2)
        h = self.conv1(self.activation(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        out: Tensor = x + self.conv2(self.dropout(self.activation(h)))
        return out


class SelfAttention(nn.Module):
    """Self-attention between all positions, with a residual connection (arXiv:1706.03762, eq. 1)."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module] = group_norm) -> None:
        super().__init__()
        self.heads = channels // head_width(channels)
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        zero_weights(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        n, _, height, width = x.shape
        # (n, heads, q|k|v, head channels, positions): heads outermost, again so that widening appends.
        qkv = self.qkv(self.norm(x)).reshape(n, self.heads, 3, -1, height * width).transpose(3, 4)
        q, k, v = (part.contiguous() for part in qkv.unbind(2))
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, -1, height, width)
        out: Tensor = x + self.out(y)
        return out


class CrossAttention(nn.Module):
    """Attention of every position to a few tokens made from the condition, with a residual connection.

    Latent diffusion conditions on text this way (arXiv:2112.10752, section 3.3); here it adds to scale and shift.
    """

    def __init__(self, channels: int, token_width: int, norm: Callable[[int], nn.Module] = group_norm) -> None:
        super().__init__()
        self.heads = channels // head_width(channels)
        self.norm = norm(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Linear(token_width, 2 * channels)
        self.out = nn.Conv2d(channels, channels, 1)
        zero_weights(self.out)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Map (n, channels, h, w) and tokens (n, k, token_width) to (n, channels, h, w)."""
        n, _, height, width = x.shape
        q = self.query(self.norm(x)).reshape(n, self.heads, -1, height * width).transpose(2, 3)
        # (n, k, heads, k|v, head channels): heads outermost, as in SelfAttention.
        k, v = self.key_value(tokens).unflatten(2, (self.heads, 2, -1)).transpose(1, 2).unbind(3)
        y = F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
        out: Tensor = x + self.out(y.transpose(2, 3).reshape(n, -1, height, width))
        return out


class Downsample(nn.Sequential):
    """Rearrange each 2x2 patch into channels, then mix them: halving the size loses nothing, unlike pooling."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, out_channels, 1))


class Upsample(nn.Sequential):
    """The inverse: mix into four times the channels, then rearrange them into 2x2 patches."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 4 * out_channels, 1), nn.PixelShuffle(2))


class InputSkip(nn.Module):
    """A linear path around the network for the pixels of each patch, scaled per channel by time and condition.

    Predicting noise (or ``v``, which contains it) requires reproducing every detail of the input, and noise cannot be
    compressed: the channels of a narrow network are too few for it. Most of that output is linear in the input, and
    passes here.
    """

    def __init__(self, channels: int, embedding: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.gain = nn.Linear(embedding, 2 * channels)
        self.leave = nn.Conv2d(2 * channels, out_channels or channels, 1, bias=False)
        zero_weights(self.leave)

    def forward(self, patches: Tensor, embedding: Tensor) -> Tensor:
        """Map (n, channels, h, w) and (n, embedding) to (n, out_channels, h, w)."""
        out: Tensor = self.leave(self.enter(patches) * (1 + self.gain(embedding))[..., None, None])
        return out


class Embedding(nn.Module):
    """Time and condition, each through its own layer, summed and mixed: one vector for all the blocks."""

    def __init__(
        self,
        condition_width: int,
        width: int,
        embed_time: Callable[[Tensor], Tensor] = sinusoidal_embedding,
        activation: Callable[[Tensor], Tensor] = F.silu,
    ) -> None:
        super().__init__()
        self.condition_width = condition_width
        self.embed_time, self.activation = embed_time, activation
        self.time = nn.Linear(embed_time(torch.zeros(1)).shape[1], width)
        self.condition = nn.Linear(condition_width, width)
        self.condition_mix = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)

    def forward(self, t: Tensor, condition: Tensor) -> Tensor:
        """Map times (n,) and conditions (n, condition_width) to (n, width)."""
        h = self.time(self.embed_time(t).to(condition.dtype))
        h = h + self.condition_mix(self.activation(self.condition(scale_condition(condition))))
        out: Tensor = self.activation(self.mix(self.activation(h)))
        return out


def scale_condition(condition: Tensor) -> Tensor:
    """Multiply unit vectors by ``sqrt(d)``: their elements are about ``1 / sqrt(d)``, layers expect about 1."""
    return condition * math.sqrt(condition.shape[1])


@dataclass(frozen=True)
class Parts:
    """The building blocks of a U-Net. Give ``Denoiser`` others to measure what each of them contributes.

    Args:
        norm: builds every normalisation from its number of channels.
        activation: the nonlinearity, everywhere; None: the one that the config names.
        block: builds a block from (channels, embedding, dropout, norm, activation); called with features and
            an embedding.
        down: builds the layer that halves the size, from (channels, out_channels).
        up: builds the layer that doubles it.
        embed_time: maps times (n,) to k numbers each, (n, k); None: the cosines and sines that the config names.
    """

    norm: Callable[[int], nn.Module] = group_norm
    activation: Callable[[Tensor], Tensor] | None = None
    block: Callable[..., nn.Module] = ResidualBlock
    down: Callable[[int, int], nn.Module] = Downsample
    up: Callable[[int, int], nn.Module] = Upsample
    embed_time: Callable[[Tensor], Tensor] | None = None
