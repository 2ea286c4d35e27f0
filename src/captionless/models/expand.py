"""Net2Net expansion: initialise a larger denoiser with the weights of a smaller one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from captionless.errors import CaptionlessError
from captionless.models.attention import CrossAttention, head_width
from captionless.models.blocks import GROUP
from captionless.models.unet import CONDITION_LAYERS, Denoiser, DenoiserConfig


@torch.no_grad()
def expand(small: Denoiser, config: DenoiserConfig) -> Denoiser:
    """Return a denoiser with architecture ``config``, initialised with the weights of ``small``.

    Each change is initialised as follows:

    - Larger width or multipliers: existing channels keep their weights and get zero weights for new input channels. New
      channels are randomly initialised. The function of the network is exactly preserved (in the spirit of Net2Net,
      arXiv:1511.05641).
    - Larger patch: the stem averages over the finer pixels, and the head repeats its output over them. The network is
      initially equivalent to the small one applied to downsampled images. Downsampling reduces the noise, which a
      shifted schedule compensates for (``CosineSchedule.shift``).
    - Tokens, input skip and crops: they initially contribute 0 to the output.
    - Different condition width: the layers that read the condition are re-initialised.

    Raises:
        CaptionlessError: ``config`` is not an expansion of the small architecture; see ``check_expansion``.
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
    """Raise unless a denoiser with architecture ``old`` can be expanded to ``new``."""
    addable = [name for name in ("tokens", "input_skip", "crops") if not getattr(old, name)]
    may_change = ("width", "multipliers", "patch", "condition_width", "dropout", *addable)
    same = new == replace(old, **{name: getattr(new, name) for name in may_change})
    same = same and len(new.levels) == len(old.levels)
    # Changing the patch of a super-resolution stage would also require spreading its low-resolution channels.
    patched = new.patch % old.patch or (old.low_res_channels and new.patch != old.patch)
    if not same or shrinks(old, new) or patched:
        raise CaptionlessError(
            f"a model with architecture {old} cannot be expanded to {new}. The width, the multipliers and the "
            "image size may increase, the encoder and the dropout may change, and `tokens` may be added if the model "
            "has none. Omit other changes, or train without `start_from`."
        )
    levels = enumerate(zip(old.levels, new.levels, strict=True))
    if any(head_width(before) != head_width(now) for level, (before, now) in levels if level in new.attention):
        raise CaptionlessError(
            f"a model of width {old.width} cannot be expanded to width {new.width}, because the number of channels per "
            f"attention head would change. Try `width={new.width + GROUP}`, or train without `start_from`."
        )


def shrinks(old: DenoiserConfig, new: DenoiserConfig) -> bool:
    """Tell whether ``new``, with as many levels as ``old``, is narrower at any level or in the embedding."""
    return new.width < old.width or any(now < before for before, now in zip(old.levels, new.levels, strict=True))


def _places(small: Denoiser, large: Denoiser) -> dict[str, str]:
    """Map layer names in ``small`` to those in ``large``, which differ where cross-attention was inserted."""
    places: dict[str, str] = {}
    for part in ("down", "up"):
        for level, (old, new) in enumerate(zip(getattr(small, part), getattr(large, part), strict=True)):
            added = len(old) < len(new)
            kept = [i for i, layer in enumerate(new) if not (added and isinstance(layer, CrossAttention))]
            places |= {f"{part}.{level}.{i}": f"{part}.{level}.{place}" for i, place in enumerate(kept)}
    return places


def _split(name: str) -> tuple[str, str]:
    """Split a name such as ``down.1.2.conv1.weight`` into ``down.1.2`` and ``.conv1.weight``."""
    parts = name.split(".")
    return ".".join(parts[:3]), "".join(f".{part}" for part in parts[3:])


def _paste(target: Tensor, weight: Tensor) -> None:
    """Copy ``weight`` into the first rows and columns of ``target``, and set the rest of these rows to 0."""
    rows = slice(0, weight.shape[0])
    if weight.ndim > 1:
        target[rows, weight.shape[1] :] = 0
        target[rows, : weight.shape[1]] = weight
    else:
        target[rows] = weight


def _spread(weight: Tensor, dim: int, old: DenoiserConfig, factor: int) -> Tensor:
    """Repeat the weights of a stem or head so that each pixel becomes ``factor`` x ``factor`` pixels."""
    shape = (old.channels, old.patch, old.patch)
    patches = weight.reshape(*weight.shape[:dim], *shape, *weight.shape[dim + 1 :])
    finer = patches.repeat_interleave(factor, dim + 1).repeat_interleave(factor, dim + 2)
    return finer.flatten(dim, dim + 2)
