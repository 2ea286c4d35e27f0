"""The denoiser, a U-Net that is conditioned on time and condition vector at every level.

    xt --stem--> level 0 --down--> level 1 --down--> level 2 (bottom)
                    |                 |                 |
    v  <--head-- level 0 <--up--- level 1 <--up--- middle
    (optionally also linearly from xt to v, through the input skip)

The stem rearranges ``patch x patch`` pixels into channels (space-to-depth), which avoids costly layers at full
resolution, and the head reverses this. Skip connections pass a 1x1 convolution and are added rather than concatenated,
so that the decoder costs as much as the encoder.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from captionless.config import limits
from captionless.errors import CaptionlessError, one_of
from captionless.models.attention import COARSE, CrossAttention, SelfAttention
from captionless.models.blocks import (
    GROUP,
    Embedding,
    InputSkip,
    Parts,
    depth_to_space,
    norm_activation,
    scale_condition,
    sinusoidal_embedding,
    space_to_depth,
    zero_weights,
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu}
CONDITION_LAYERS = ("embedding.condition.weight", "tokens.weight")
"""The layers that read the condition vector; they are re-initialised if its width or meaning changes."""


@dataclass(frozen=True)
class DenoiserConfig:
    """The architecture of a denoiser.

    Args:
        channels: image channels; 3 for RGB, 1 for grey.
        patch: side length in pixels of the patches that the stem rearranges into channels.
        width: channels at level 0; a multiple of 16.
        multipliers: channels of each level, as multiples of ``width``; each level halves the spatial size.
        blocks: residual blocks per level, both in the encoder and in the decoder.
        attention: the levels with self-attention; level 0 is the finest.
        condition_width: length of the condition vector.
        dropout: dropout probability in the residual blocks, useful for very small folders.
        tokens: number of tokens computed from the condition for cross-attention, which is added at the levels with
            self-attention; 0 disables cross-attention.
        activation: ``silu`` or ``gelu``.
        time_features: number of sinusoidal features of the time; even.
        input_skip: add a linear skip connection from input to output; see ``InputSkip``.
        low_res_channels: number of channels concatenated to the noisy image in a super-resolution stage.
        crops: add a layer that tells the network which part of an image it sees.

    Raises:
        CaptionlessError: a value is invalid.
    """

    channels: int = 3
    patch: int = 4
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 2
    attention: tuple[int, ...] = (1, 2)
    condition_width: int = 512
    dropout: float = 0.0
    tokens: int = 0
    activation: str = "silu"
    time_features: int = 128
    input_skip: bool = False
    low_res_channels: int = 0
    crops: bool = False

    def __post_init__(self) -> None:
        one_of("activation", self.activation, tuple(ACTIVATIONS))
        if self.width < GROUP or self.width % GROUP:
            raise CaptionlessError(
                f"`width` must be a multiple of {GROUP}, not {self.width}. Try `width=64`.", parameter="width"
            )
        most = dict.fromkeys(("channels", "low_res_channels", "blocks"), limits.MAX_BLOCKS)
        most |= dict.fromkeys(("width", "tokens", "time_features"), limits.MAX_WIDTH)
        most |= {"patch": limits.MAX_PATCH, "condition_width": limits.MAX_CONDITION}
        values = [(name, getattr(self, name), limit) for name, limit in most.items()]
        values += [("multipliers", value, limits.MAX_MULTIPLIER) for value in self.multipliers]
        values += [("number of levels", len(self.multipliers), limits.MAX_LEVELS)]
        if absurd := next((one for one in values if one[1] > one[2]), None):
            raise CaptionlessError("{0} must be at most {2:,}, not {1:,}.".format(*absurd), parameter=absurd[0])
        sizes = (self.channels, self.patch, self.blocks, self.condition_width, *self.multipliers)
        if min(sizes) < 1 or not self.multipliers or self.low_res_channels < 0:
            raise CaptionlessError(
                "channels, patch, blocks, condition_width and every multiplier must be at least 1, and there must be "
                f"at least one multiplier; got channels={self.channels}, patch={self.patch}, blocks={self.blocks}, "
                f"condition_width={self.condition_width}, multipliers={self.multipliers}, and "
                f"low_res_channels={self.low_res_channels}, which must not be negative."
            )
        if self.tokens < 0 or (self.tokens and not set(self.attention) & set(range(len(self.multipliers)))):
            raise CaptionlessError(
                f"`tokens` must be at least 0, and 0 if no level of the denoiser has attention; got {self.tokens} with "
                f"attention at levels {self.attention} of {len(self.multipliers)} levels. Set `tokens` to 0, or "
                "add attention levels."
            )
        if self.time_features < 4 or self.time_features % 2:
            raise CaptionlessError(f"`time_features` must be an even number of at least 4, not {self.time_features}.")

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels of each level, from fine to coarse."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def total_downsampling(self) -> int:
        """The total downsampling factor; the side of an image must be divisible by it."""
        return self.patch * int(2 ** (len(self.multipliers) - 1))

    def perturbs(self, size: int) -> bool:
        """Return whether perturbed attention has an effect on images of ``size`` x ``size`` pixels."""
        levels = [level for level in self.attention if level < len(self.multipliers)]
        return any(size // (self.patch * int(2**level)) <= COARSE for level in levels)

    def check_size(self, size: int, factor: int = 1) -> None:
        """Raise unless the network accepts images of ``size`` x ``size`` pixels, reduced by ``factor``."""
        step = self.total_downsampling * factor
        if size < step or size % step:
            near = max(1, round(size / step)) * step
            raise CaptionlessError(
                f"`size` must be divisible by {step} for this denoiser, but is {size}. Try `size={near}`.",
                parameter="size",
            )


class Denoiser(nn.Module):
    """The network, which predicts ``v`` (or another target) from noisy images, times and conditions.

    Args:
        config: the architecture.
        parts: other building blocks, for experiments; a network with other building blocks cannot be saved as a model.
    """

    def __init__(self, config: DenoiserConfig, parts: Parts | None = None) -> None:
        super().__init__()
        self.config = config
        parts = parts or Parts()
        self.activation = parts.activation or ACTIVATIONS[config.activation]
        parts = replace(parts, activation=self.activation)
        levels = config.levels
        pixels, low_res = config.channels * config.patch**2, config.low_res_channels * config.patch**2
        width = 4 * config.width
        embed_time = parts.embed_time or partial(sinusoidal_embedding, frequencies=config.time_features // 2)
        self.embedding = Embedding(config.condition_width, width, embed_time, self.activation, config.crops)
        self.stem = nn.Conv2d(pixels + low_res, levels[0], 3, padding=1)
        self.down = nn.ModuleList(_level(config, parts, i) for i in range(len(levels)))
        self.downsample = nn.ModuleList(parts.down(a, b) for a, b in itertools.pairwise(levels))
        self.middle = nn.ModuleList(_block(config, parts, levels[-1]) for _ in range(2))
        self.skip = nn.ModuleList(nn.Conv2d(channels, channels, 1) for channels in levels)
        self.up = nn.ModuleList(_level(config, parts, i) for i in range(len(levels)))
        self.upsample = nn.ModuleList(parts.up(b, a) for a, b in itertools.pairwise(levels))
        self.norm = parts.norm(levels[0])
        self.head = nn.Conv2d(levels[0], pixels, 3, padding=1)
        zero_weights(self.head)
        self.tokens = nn.Linear(config.condition_width, config.tokens * width) if config.tokens else None
        self.input_skip = InputSkip(pixels + low_res, width, pixels) if config.input_skip else None
        self.checkpoint_activations = False  # recompute each block's activations in the backward pass, to save memory

    def forward(
        self,
        xt: Tensor,
        t: Tensor,
        condition: Tensor,
        identity: Tensor | None = None,
        *,
        crop: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction, (n, channels, size, size).

        Args:
            xt: noisy images, (n, channels + low_res_channels, size, size).
            t: times in [0, 1], (n,).
            condition: condition vectors (unit vectors, or zeros for the null condition), (n, condition_width).
            identity: how far self-attention on coarse feature maps is disabled, from 0 to 1, (n,); see
                ``SelfAttention``.
            crop: which part of an image is seen, (n, 3): the logarithm of its side, and how far its centre lies right
                of and below that of the image, whose side is 1; None for whole images. Needs ``DenoiserConfig.crops``.
        """
        embedding = self.embedding(t, condition, crop)
        tokens = None
        if self.tokens is not None:
            # (n, width, k) before the transpose, so that widening the network appends rows.
            tokens = self.tokens(scale_condition(condition)).unflatten(1, (-1, self.config.tokens)).transpose(1, 2)
        patches = space_to_depth(xt, self.config.patch)
        h = self.stem(patches)
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i:
                h = self.downsample[i - 1](h)
            h = self._run(level, h, embedding, tokens, identity)
            skips.append(h)
        h = self._run(self.middle, h, embedding, tokens, identity)
        for i in reversed(range(len(self.up))):
            h = self._run(self.up[i], h + self.skip[i](skips[i]), embedding, tokens, identity)
            if i:
                h = self.upsample[i - 1](h)
        out = self.head(norm_activation(h, self.norm, self.activation))
        if self.input_skip is not None:
            out = out + self.input_skip(patches, embedding)
        return depth_to_space(out, self.config.patch)

    def _run(
        self, layers: nn.Module, h: Tensor, embedding: Tensor, tokens: Tensor | None, identity: Tensor | None
    ) -> Tensor:
        for layer in layers.children():
            match layer:
                case SelfAttention():
                    inputs = (h, identity)
                case CrossAttention():
                    inputs = (h, tokens)
                case _:
                    inputs = (h, embedding)
            if self.checkpoint_activations and torch.is_grad_enabled():
                h = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                h = layer(*inputs)
        return h


def _level(config: DenoiserConfig, parts: Parts, level: int) -> nn.ModuleList:
    """Return the layers of one level: residual blocks, each followed by attention if ``level`` has attention."""
    channels = config.levels[level]
    layers: list[nn.Module] = []
    for _ in range(config.blocks):
        layers.append(_block(config, parts, channels))
        if level in config.attention:
            layers.append(SelfAttention(channels, parts.norm))
            if config.tokens:
                layers.append(CrossAttention(channels, 4 * config.width, parts.norm))
    return nn.ModuleList(layers)


def _block(config: DenoiserConfig, parts: Parts, channels: int) -> nn.Module:
    return parts.block(channels, 4 * config.width, config.dropout, parts.norm, parts.activation)


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(p.numel() for p in network.parameters())


@cache
def weight_count(config: DenoiserConfig) -> int:
    """Return the number of parameters of a denoiser, without allocating it."""
    with torch.device("meta"):
        return parameter_count(Denoiser(config))
