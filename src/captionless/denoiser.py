"""The denoiser: a U-Net that is told the time and the condition at every scale.

    picture --stem--> level 0 --down--> level 1 --down--> level 2 (bottom)
                         |                 |                 |
    v      <--head-- level 0 <--up--- level 1 <--up--- middle

The stem rearranges ``patch x patch`` pixels into channels (space to depth), so that the costly full-size
layers disappear; the head rearranges back. Skip connections are added through a 1x1 convolution instead
of concatenated, which makes the way up as cheap as the way down.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

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
    zero_weights,
)
from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that decides the shape of a denoiser's weights.

    Args:
        channels: 3 for colour, 1 for grey.
        patch: side of the square of pixels that the stem turns into channels.
        width: channels at level 0; a multiple of 16.
        multipliers: channels of each level, as multiples of ``width``; each level halves the size.
        blocks: residual blocks a level on the way down (and as many on the way up).
        attention: the levels (0 is the finest) that get self-attention.
        condition_width: length of the condition vector.
        dropout: dropout inside the residual blocks; for tiny folders.
    """

    channels: int = 3
    patch: int = 4
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 2
    attention: tuple[int, ...] = (1, 2)
    condition_width: int = 512
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from."""
        if self.width < GROUP or self.width % GROUP:
            raise CaptionlessError(f"--width must be a multiple of {GROUP}, not {self.width}. Try 64 or 96.")
        sizes = (self.channels, self.patch, self.blocks, self.condition_width, *self.multipliers)
        if min(sizes) < 1 or not self.multipliers:
            raise CaptionlessError(f"every size of a denoiser must be at least 1; got {self}.")

    @property
    def total_downsampling(self) -> int:
        """The number that a picture's side must be divisible by."""
        return self.patch * int(2 ** (len(self.multipliers) - 1))

    def check_size(self, size: int) -> None:
        """Raise unless pictures of ``size`` x ``size`` pixels pass through this network."""
        step = self.total_downsampling
        if size < step or size % step:
            near = max(1, round(size / step)) * step
            raise CaptionlessError(
                f"--size {size} does not divide by {step}, as this denoiser needs. Try --size {near}."
            )


def default_patch(size: int) -> int:
    """Return the stem's patch for pictures of ``size`` pixels: a grid of about 16 to 32 positions a side."""
    return next((patch for patch in (4, 2) if size % (4 * patch) == 0 and size // patch >= 16), 1)


class Denoiser(nn.Module):
    """Predict ``v`` from a noisy picture, its time and its condition.

    Args:
        config: the shape of the network.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        levels = [config.width * m for m in config.multipliers]
        pixels = config.channels * config.patch**2
        embedding = 4 * config.width
        self.embedding = Embedding(config.condition_width, embedding)
        self.stem = nn.Conv2d(pixels, levels[0], 3, padding=1)
        self.down = nn.ModuleList(_level(config, i, embedding) for i in range(len(levels)))
        self.downsample = nn.ModuleList(Downsample(a, b) for a, b in itertools.pairwise(levels))
        self.middle = nn.ModuleList(
            [
                ResidualBlock(levels[-1], embedding, config.dropout),
                ResidualBlock(levels[-1], embedding, config.dropout),
            ]
        )
        self.skip = nn.ModuleList(nn.Conv2d(channels, channels, 1) for channels in levels)
        self.up = nn.ModuleList(_level(config, i, embedding) for i in range(len(levels)))
        self.upsample = nn.ModuleList(Upsample(b, a) for a, b in itertools.pairwise(levels))
        self.norm = group_norm(levels[0])
        self.head = nn.Conv2d(levels[0], pixels, 3, padding=1)
        zero_weights(self.head)

    def forward(self, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the predicted ``v``.

        Args:
            xt: noisy pictures, (n, channels, size, size).
            t: times, (n,), in [0, 1].
            condition: unit vectors, or zeros for the null condition, (n, condition_width).

        Returns:
            (n, channels, size, size).
        """
        embedding = self.embedding(t, condition)
        h = self.stem(F.pixel_unshuffle(xt, self.config.patch))
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i:
                h = self.downsample[i - 1](h)
            h = _run(level, h, embedding)
            skips.append(h)
        h = _run(self.middle, h, embedding)
        for i in reversed(range(len(self.up))):
            h = _run(self.up[i], h + self.skip[i](skips[i]), embedding)
            if i:
                h = self.upsample[i - 1](h)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.config.patch)


def _level(config: DenoiserConfig, level: int, embedding: int) -> nn.ModuleList:
    """Return the blocks of one level: residual blocks, each followed by attention where wanted."""
    channels = config.width * config.multipliers[level]
    parts: list[nn.Module] = []
    for _ in range(config.blocks):
        parts.append(ResidualBlock(channels, embedding, config.dropout))
        if level in config.attention:
            parts.append(SelfAttention(channels))
    return nn.ModuleList(parts)


def _run(parts: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for part in parts.children():
        h = part(h, embedding) if isinstance(part, ResidualBlock) else part(h)
    return h


def parameter_count(network: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def grow(small: Denoiser, config: DenoiserConfig) -> Denoiser:
    """Return a denoiser of shape ``config`` that starts with what ``small`` knows.

    Wider: old channels keep their weights, new ones start fresh and are not listened to by the old ones,
    so the function is exactly preserved (in the spirit of Net2Net, arXiv:1511.05641). Larger patch: the
    stem averages the new, finer pixels and the head repeats its output over them, so that the network
    starts as the small one on reduced pictures (which are less noisy than their time says; training settles
    that). Another condition width starts its input layer afresh.

    Raises:
        CaptionlessError: ``config`` is narrower, coarser or otherwise of another make.
    """
    check_growth(small.config, config)
    large = Denoiser(config)
    old = small.state_dict()
    factor = config.patch // small.config.patch
    if factor > 1:
        old["stem.weight"] = _spread(old["stem.weight"], 1, small.config, factor) / factor**2
        old["head.weight"] = _spread(old["head.weight"], 0, small.config, factor)
        old["head.bias"] = _spread(old["head.bias"], 0, small.config, factor)
    if config.condition_width != small.config.condition_width:
        del old["embedding.condition.weight"]
    new = large.state_dict()
    for name, weight in old.items():
        _paste(new[name], weight)
    return large


def check_growth(old: DenoiserConfig, new: DenoiserConfig) -> None:
    """Raise unless a denoiser of shape ``old`` can grow into one of shape ``new``."""
    same = (old.channels, old.multipliers, old.blocks, old.attention) == (
        new.channels,
        new.multipliers,
        new.blocks,
        new.attention,
    )
    if not same or new.width < old.width or new.patch % old.patch:
        raise CaptionlessError(
            f"a model of shape {old} cannot grow into {new}: only the width, the size and the encoder may change, "
            "and the first two only upwards. Leave --width and --size out, or train without --from."
        )
    attended = [multiplier for level, multiplier in enumerate(new.multipliers) if level in new.attention]
    if any(head_width(old.width * m) != head_width(new.width * m) for m in attended):
        raise CaptionlessError(
            f"a model of width {old.width} cannot grow to width {new.width}: its attention heads would be cut anew. "
            f"Try --width {new.width + GROUP}, or train without --from."
        )


def _paste(target: Tensor, weight: Tensor) -> None:
    """Copy ``weight`` into the leading corner of ``target``; old outputs do not listen to new inputs."""
    rows = slice(0, weight.shape[0])
    if weight.ndim > 1:
        target[rows, weight.shape[1] :] = 0
        target[rows, : weight.shape[1]] = weight
    else:
        target[rows] = weight


def _spread(weight: Tensor, dim: int, old: DenoiserConfig, factor: int) -> Tensor:
    """Repeat a stem's or head's weights along pixels: each old pixel becomes ``factor`` x ``factor`` new ones."""
    shape = (old.channels, old.patch, old.patch)
    patches = weight.reshape(*weight.shape[:dim], *shape, *weight.shape[dim + 1 :])
    finer = patches.repeat_interleave(factor, dim + 1).repeat_interleave(factor, dim + 2)
    return finer.flatten(dim, dim + 2)
