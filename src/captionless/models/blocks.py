"""The building blocks of the U-Net: embeddings, normalisation, residual blocks, down- and upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionless.errors import CaptionlessError
from captionless.models import fused

GROUP = 16
"""Channels per normalisation group. The group size is fixed, rather than the number of groups, so that a network can be
widened without changing the statistics of its existing groups."""


def sinusoidal_embedding(t: Tensor, frequencies: int = 64, fastest: float = 1000.0) -> Tensor:
    """Return the sinusoidal embedding of times ``t``, (n,), with shape (n, 2 * frequencies), float32.

    It consists of cosines and sines with frequencies from 1 to ``fastest``. This is the positional encoding of
    "Attention is all you need" (arXiv:1706.03762, section 3.5), which DDPM uses for the diffusion time
    (arXiv:2006.11239, app. B).
    """
    exponents = torch.arange(frequencies, device=t.device, dtype=torch.float32) / (frequencies - 1)
    angles = t.float()[:, None] * fastest ** exponents[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def zero_weights(layer: nn.Module) -> None:
    """Zero-initialise a layer, so that its residual branch initially outputs 0."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that keeps the number format of its input under autocast.

    Statistics are computed in float32 in any case. Autocast would convert every activation to float32 and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, ...), which keeps its shape and dtype."""
        kind = x.device.type
        # Entering autocast only to disable it takes longer than a small feature map.
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation layer with ``GROUP`` channels per group (arXiv:1803.08494)."""
    return GroupNorm(max(1, channels // GROUP), channels)


class Dropout(nn.Module):
    """Zero elements with probability ``p`` in training, and scale the others so that the expectation stays the same.

    Attributes:
        draw: maps a number of bytes to random bytes for each of n images, uint8 (n, number); ``p`` is then rounded to
            1/256. Without it, the global generator draws the mask.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.draw: Callable[[int], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        if self.draw is None or not (self.training and self.p):
            return F.dropout(x, self.p, self.training)
        threshold = round(256 * self.p)
        kept = self.draw(x[0].numel()).reshape(x.shape) >= threshold
        return x * (kept * (256 / (256 - threshold))).to(x.dtype)


class ResidualBlock(nn.Module):
    """Residual block of two 3x3 convolutions, conditioned on the embedding.

    The embedding of time and condition sets the scale and shift of the second normalisation (adaptive group
    normalisation, arXiv:2105.05233, section 3). The arguments are those of ``Parts.block``; ``embedding`` is the width
    of the embedding.
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
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # The block is initially the identity, so that deep networks train stably from the start.
        zero_weights(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (n, channels, h, w) and (n, embedding) to (n, channels, h, w)."""
        # Scale and shift of a channel are adjacent, so that widening the network appends rows without moving old ones.
        modulation = self.modulation(embedding)
        h = norm_activation(x, self.norm1, self.activation)
        h = norm_activation(h, self.norm2, self.activation, self.conv1, modulation)
        return add_convolution(x, self.conv2, self.dropout(h))


def norm_activation(
    x: Tensor,
    norm: nn.Module,
    activation: Callable[[Tensor], Tensor] | None = None,
    convolution: nn.Conv2d | None = None,
    modulation: Tensor | None = None,
) -> Tensor:
    """Convolve, normalise, modulate and activate a feature map, (n, channels, h, w).

    Args:
        x: the feature map.
        norm: the normalisation layer.
        activation: the activation function, or None.
        convolution: a convolution that comes first, or None.
        modulation: scale and shift of each channel, side by side, (n, 2 * channels), or None.
    """
    if isinstance(norm, GroupNorm) and activation in (None, F.silu) and fused.can_fuse(x):
        bias = None
        if convolution is not None:
            bias = convolution.bias
            x = F.conv2d(x, convolution.weight, None, padding=convolution.padding)
        return fused.norm_silu(x, norm, bias=bias, modulation=modulation, silu=activation is not None)
    h: Tensor = norm(x if convolution is None else convolution(x))
    if modulation is not None:
        scale, shift = modulation.reshape(h.shape[0], -1, 2)[..., None, None].unbind(2)
        h = torch.addcmul(shift, h, 1 + scale)
    return h if activation is None else activation(h)


def add_convolution(x: Tensor, convolution: nn.Conv2d, h: Tensor) -> Tensor:
    """Return ``x + convolution(h)``, the end of a residual branch."""
    if fused.can_fuse(x):
        return fused.add_convolution(x, convolution, h)
    out: Tensor = x + convolution(h)
    return out


def space_to_depth(x: Tensor, side: int) -> Tensor:
    """Rearrange ``side x side`` pixels into channels, like ``F.pixel_unshuffle``; the result is channels last on CUDA.

    There, PyTorch's own operator returns another memory format, from which every later layer would copy.
    """
    if not x.is_cuda:
        return F.pixel_unshuffle(x, side)
    n, channels, height, width = x.shape
    blocks = x.reshape(n, channels, height // side, side, width // side, side)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(n, height // side, width // side, -1).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, side: int) -> Tensor:
    """Rearrange channels into ``side x side`` pixels, like ``F.pixel_shuffle``; the inverse of ``space_to_depth``."""
    if not x.is_cuda:
        return F.pixel_shuffle(x, side)
    n, _, height, width = x.shape
    blocks = x.reshape(n, -1, side, side, height, width)
    return blocks.permute(0, 4, 2, 5, 3, 1).reshape(n, height * side, width * side, -1).permute(0, 3, 1, 2)


class Downsample(nn.Sequential):
    """Halve the spatial size: space-to-depth, which unlike pooling keeps all information, then a 1x1 convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, out_channels, h / 2, w / 2)."""
        out: Tensor = self[1](space_to_depth(x, 2))
        return out


class Upsample(nn.Sequential):
    """Double the spatial size: a 1x1 convolution to four times the channels, then depth-to-space."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 4 * out_channels, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, out_channels, 2 * h, 2 * w)."""
        return depth_to_space(self[0](x), 2)


class InputSkip(nn.Module):
    """Linear skip connection from the input pixels to the output, scaled per channel by time and condition.

    To predict the noise (or ``v``, which contains it), a network must reproduce every detail of its input. Noise is
    incompressible, and a narrow network has too few channels to pass it through. Most of this output is a linear
    function of the input, which this skip connection provides.
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


CROP_SCALE = 4.0
"""Brings the numbers that describe a crop to a magnitude of about 1, so that a layer from zero learns them quickly."""


class Embedding(nn.Module):
    """Embed time and condition into one vector, which conditions all blocks.

    With ``crops``, the embedding may also be told which part of an image the network sees; this adds nothing at first.
    """

    def __init__(
        self,
        condition_width: int,
        width: int,
        embed_time: Callable[[Tensor], Tensor] = sinusoidal_embedding,
        activation: Callable[[Tensor], Tensor] = F.silu,
        crops: bool = False,
    ) -> None:
        super().__init__()
        self.condition_width = condition_width
        self.embed_time, self.activation = embed_time, activation
        self.time = nn.Linear(
            embed_time(torch.zeros(1, device="cpu")).shape[1], width
        )  # even in a network on the meta device
        self.condition = nn.Linear(condition_width, width)
        self.condition_mix = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.crop = nn.Linear(3, width, bias=False) if crops else None
        if self.crop is not None:
            nn.init.zeros_(self.crop.weight)

    def forward(self, t: Tensor, condition: Tensor, crop: Tensor | None = None) -> Tensor:
        """Map times (n,), conditions (n, condition_width) and crops (n, 3), None for whole images, to (n, width).

        Raises:
            CaptionlessError: there are crops, but the embedding was built without.
        """
        h = self.time(self.embed_time(t).to(condition.dtype))
        h = h + self.condition_mix(self.activation(self.condition(scale_condition(condition))))
        if crop is not None:
            if self.crop is None:
                raise CaptionlessError("this denoiser cannot be told of crops. Build it with `crops=True`.")
            h = h + self.crop(CROP_SCALE * crop)
        out: Tensor = self.activation(self.mix(self.activation(h)))
        return out


def scale_condition(condition: Tensor) -> Tensor:
    """Multiply unit vectors by ``sqrt(d)``, so that their elements have a magnitude of about 1."""
    return condition * math.sqrt(condition.shape[1])


@dataclass(frozen=True)
class Parts:
    """The building blocks of a U-Net. Pass other blocks to ``Denoiser`` for ablation experiments.

    Args:
        norm: builds a normalisation layer from its number of channels.
        activation: the activation function of all layers; by default ``DenoiserConfig.activation``.
        block: builds a residual block from (channels, embedding, dropout, norm, activation). The block is called with
            features and an embedding.
        down: builds a downsampling layer from (channels, out_channels), which halves the spatial size.
        up: builds an upsampling layer from (channels, out_channels), which doubles the spatial size.
        embed_time: maps times (n,) to features (n, k); by default ``sinusoidal_embedding`` with
            ``DenoiserConfig.time_features`` features.
    """

    norm: Callable[[int], nn.Module] = group_norm
    activation: Callable[[Tensor], Tensor] | None = None
    block: Callable[..., nn.Module] = ResidualBlock
    down: Callable[[int, int], nn.Module] = Downsample
    up: Callable[[int, int], nn.Module] = Upsample
    embed_time: Callable[[Tensor], Tensor] | None = None
