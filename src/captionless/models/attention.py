"""The attention layers of the U-Net."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.models.blocks import GROUP, add_convolution, group_norm, norm_activation, zero_weights

HEAD = 32
"""Channels per attention head, fixed so that a widened network keeps its existing heads."""

COARSE = 8
"""Largest side of the feature maps whose self-attention ``identity`` replaces. It arranges the parts of an object;
without that of finer feature maps, guidance draws outlines only."""


def head_width(channels: int) -> int:
    """Return the channels per attention head: ``HEAD``, or ``GROUP`` if ``HEAD`` does not divide ``channels``."""
    return HEAD if channels % HEAD == 0 else GROUP


class SelfAttention(nn.Module):
    """Self-attention between all positions, with a residual connection (arXiv:1706.03762, eq. 1)."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module] = group_norm) -> None:
        super().__init__()
        self.heads = channels // head_width(channels)
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        zero_weights(self.out)

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """Map (n, channels, h, w) to the same shape.

        Args:
            x: a feature map.
            identity: weight of the identity matrix in place of the attention matrix, on coarse feature maps, (n,); with
                1, each position attends to itself only (perturbed attention, arXiv:2403.17377, eq. 9).
        """
        n, channels, height, width = x.shape
        # (n, positions, heads, q|k|v, head channels): heads come first, so that widening the network appends rows. In
        # channels-last format, this and all that follows are views.
        qkv = self.qkv(norm_activation(x, self.norm)).permute(0, 2, 3, 1).reshape(n, height * width, self.heads, 3, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(3))
        y = F.scaled_dot_product_attention(q, k, v)
        if identity is not None and max(height, width) <= COARSE:
            y = torch.lerp(y, v, identity.to(y)[:, None, None, None])
        y = y.transpose(1, 2).reshape(n, height, width, channels)
        return add_convolution(x, self.out, y.permute(0, 3, 1, 2))


class CrossAttention(nn.Module):
    """Cross-attention from every position to tokens computed from the condition, with a residual connection.

    It follows latent diffusion (arXiv:2112.10752, section 3.3) and is used in addition to the scale and shift of
    ``ResidualBlock``.
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
        n, channels, height, width = x.shape
        # (n, k, heads, head channels) each: heads come first, as in SelfAttention.
        k, v = self.key_value(tokens).unflatten(2, (self.heads, 2, -1)).unbind(3)
        # There are far fewer tokens than positions. So the projections of the positions, x -> query and y -> out, are
        # applied to the tokens instead, which gives the same products in another order.
        enter, leave = self.query.weight.view(self.heads, -1, channels), self.out.weight.view(channels, self.heads, -1)
        k = k * k.shape[-1] ** -0.5
        read = torch.einsum("nkhd,hdc->nhkc", k, enter).flatten(1, 2)
        offset = torch.einsum("nkhd,hd->nhk", k, torch.as_tensor(self.query.bias).view(self.heads, -1))
        write = torch.einsum("nkhd,chd->nhkc", v, leave)
        write = (write + torch.as_tensor(self.out.bias) / self.heads).flatten(1, 2)  # a head's weights sum to 1
        positions = norm_activation(x, self.norm).permute(0, 2, 3, 1).reshape(n, height * width, channels)
        logits = torch.baddbmm(offset.flatten(1)[..., None], read, positions.transpose(1, 2))
        weights = logits.reshape(n, self.heads, -1, height * width).softmax(2).flatten(1, 2)
        out: Tensor = x + (weights.transpose(1, 2) @ write).reshape(n, height, width, channels).permute(0, 3, 1, 2)
        return out
