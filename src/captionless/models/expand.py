"""Net2Net expansion: initialise a larger denoiser with the weights of a smaller one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from captionless.errors import CaptionlessError
from captionless.models.blocks import GROUP, CrossAttention, head_width
from captionless.models.unet import CONDITION_LAYERS, Denoiser, DenoiserConfig


@torch.no_grad()
def expand(small: Denoiser, config: DenoiserConfig) -> Denoiser:
    """Return a denoiser of shape ``config``, initialised with the weights of ``small``.

    Wider, at all levels or some: old channels keep their weights; new ones start fresh, and old ones have zero weights
    for them, so the function is exactly preserved (in the spirit of Net2Net, arXiv:1511.05641). Larger patch: the stem
    averages the new, finer pixels and the head repeats its output over them, so that the network starts as the small
    one on reduced images (which are less noisy than their time says, unless the schedule is shifted, see
    ``CosineSchedule.shift``). Tokens and input skip add nothing at first. If the condition width changes, the layers
    that read the condition start afresh.

    Raises:
        CaptionlessError: ``config`` is smaller somewhere, or different in kind.
    """
    check_expansion(small.config, config)
    large = Denoiser(config)
    old = small.state_dict()
    factor = config.patch // small.config.patch
    if factor > 1:
        for name in {"stem.weight", "input_skip.enter.weight"} & old.keys():
            old[name] = _spread(old[name], 1, small.config, factor) / factor**2
        for name in {"head.weight", "head.bias", "input_skip.leave.weight"} & old.keys():
            old[name] = _spread(old[name], 0, small.config, factor)
    if config.condition_width != small.config.condition_width:
        old = {name: weight for name, weight in old.items() if name not in CONDITION_LAYERS}
    new, places = large.state_dict(), _places(small, large)
    for name, weight in old.items():
        layer, rest = _split(name)
        _paste(new[places.get(layer, layer) + rest], weight)
    return large


def check_expansion(old: DenoiserConfig, new: DenoiserConfig) -> None:
    """Raise unless a denoiser of shape ``old`` can be expanded to shape ``new``."""
    addable = [name for name in ("tokens", "input_skip") if not getattr(old, name)]
    may_change = ("width", "multipliers", "patch", "condition_width", "dropout", *addable)
    same = new == replace(old, **{name: getattr(new, name) for name in may_change})
    same = same and len(new.levels) == len(old.levels)
    # The low-resolution channels would have to be spread over a larger patch as well; such a stage keeps its patch.
    patched = new.patch % old.patch or (old.low_res_channels and new.patch != old.patch)
    if not same or shrinks(old, new) or patched:
        raise CaptionlessError(
            f"a model of shape {old} cannot be expanded to {new}: only the width, the levels, the size and the encoder "
            "may change, the first three only upwards, and `tokens` may be added if there are none. Leave them out, or "
            "train without `start_from`."
        )
    levels = enumerate(zip(old.levels, new.levels, strict=True))
    if any(head_width(before) != head_width(now) for level, (before, now) in levels if level in new.attention):
        raise CaptionlessError(
            f"a model of width {old.width} cannot be expanded to width {new.width}, because the width of its attention "
            f"heads would change. Try `width={new.width + GROUP}`, or train without `start_from`."
        )


def shrinks(old: DenoiserConfig, new: DenoiserConfig) -> bool:
    """Tell whether ``new``, with as many levels as ``old``, is narrower at one of them or in its embedding."""
    return new.width < old.width or any(now < before for before, now in zip(old.levels, new.levels, strict=True))


def _places(small: Denoiser, large: Denoiser) -> dict[str, str]:
    """Return the names in ``large`` of the layers of each level, where cross-attention may have been inserted."""
    places: dict[str, str] = {}
    for part in ("down", "up"):
        for level, (old, new) in enumerate(zip(getattr(small, part), getattr(large, part), strict=True)):
            added = len(old) < len(new)
            kept = [i for i, layer in enumerate(new) if not (added and isinstance(layer, CrossAttention))]
            places |= {f"{part}.{level}.{i}": f"{part}.{level}.{place}" for i, place in enumerate(kept)}
    return places


def _split(name: str) -> tuple[str, str]:
    """Split ``down.1.2.conv1.weight`` into ``down.1.2`` and the rest."""
    parts = name.split(".")
    return ".".join(parts[:3]), "".join(f".{part}" for part in parts[3:])


def _paste(target: Tensor, weight: Tensor) -> None:
    """Copy ``weight`` into the leading corner of ``target``; old outputs get zero weights for new inputs."""
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
