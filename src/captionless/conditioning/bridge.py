"""From text vector to condition: closing the modality gap.

The denoiser is trained on image vectors. A matching text vector points the same way only roughly: texts
and pictures fill two separate cones of the shared space (arXiv:2203.02053). A bridge moves a text vector
to where image vectors live. ``docs/ablations.md`` measures them; ``captionless.config.sampling`` holds the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import BRIDGES
from captionless.errors import CaptionlessError, one_of

NEIGHBOURS = 100
"""More of them average out what is accidental in each; 100 measured better than 20, and 20 than 5."""
SETTLE = 2
"""With each, pictures show more surely what was asked for, and words tell less of the rest; ``docs/ablations.md``."""
DENSE = 1000
"""Pictures from which on means are settled. Among few (150, say), the closest one outweighs all others once the mean is
near it, and what was a mean would become a single training picture's own vector."""


@dataclass(frozen=True)
class BridgeData:
    """What a model knows of the far side of the gap: how its training pictures lie in the shared space.

    Args:
        bank: unit image vectors of training pictures, (m, d).
        temperature: of the encoder's contrastive softmax, ``1 / logit_scale``.
        text_mean: mean of the unit vectors of prompts about what the pictures show, (d,); None where a model has none.
    """

    bank: Tensor
    temperature: float
    text_mean: Tensor | None = None


def nearest(text: Tensor, bank: Tensor, temperature: float, neighbours: int = NEIGHBOURS, settle: int = 0) -> Tensor:
    """Replace each text vector by a weighted mean of the training pictures' vectors closest to it, settled if asked.

    In the manner of kNN-Diffusion (arXiv:2204.02849), with a softmax over the cosines so that the closest count most.

    To a short text ("a daisy"), pictures of several kinds can be about equally close, for the gap between texts and
    pictures is wider than what tells pictures apart; their mean is then like no picture at all. So the mean moves on to
    the mean of the pictures closest to *it*, a few times: the mean shift algorithm (Fukunaga & Hostetler, "The
    estimation of the gradient of a density function", 1975), which climbs to where pictures are dense.

    Args:
        text: unit vectors, (n, d).
        bank: unit image vectors of the training pictures, (m, d).
        temperature: of the softmax; the encoder's own contrastive one, ``1 / logit_scale``.
        neighbours: how many take part.
        settle: how often the mean moves on.

    Returns:
        Unit vectors, (n, d).
    """
    place = text
    for _ in range(1 + settle):
        cosines, indices = (place @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        weights = torch.softmax(cosines / temperature, dim=1)
        place = F.normalize((weights.unsqueeze(-1) * bank[indices]).sum(1), dim=1)
    return place


def mean_shift(text: Tensor, text_mean: Tensor, image_mean: Tensor) -> Tensor:
    """Move text vectors by the difference of the two cones' means, and back to unit length.

    The gap is mostly one constant vector (as C3 finds, arXiv:2401.08567, which takes both means away). Both must be of
    the same subjects: with texts about everything and pictures of flowers, the shift would add what flowers have in
    common.

    Args:
        text: unit vectors, (n, d).
        text_mean: (d,).
        image_mean: (d,).

    Returns:
        Unit vectors, (n, d).
    """
    return F.normalize(text - text_mean + image_mean, dim=1)


def to_condition(text: Tensor, bridge_data: BridgeData, bridge: str = "nearest") -> Tensor:
    """Apply the bridge called ``bridge`` to unit text vectors (n, d); see ``captionless.config.sampling.BRIDGES``.

    Raises:
        CaptionlessError: an unknown bridge, or one that the model does not carry what it needs for.
    """
    one_of("bridge", bridge, BRIDGES)
    if bridge == "none":
        return text
    if bridge == "nearest":
        return nearest(
            text, bridge_data.bank, bridge_data.temperature, settle=SETTLE if len(bridge_data.bank) >= DENSE else 0
        )
    if bridge_data.text_mean is None:
        raise CaptionlessError(
            "this model carries no mean of its subject's words, which --bridge mean needs (an older captionless wrote "
            "it). Choose --bridge nearest, or train on with --from."
        )
    return mean_shift(text, bridge_data.text_mean, bridge_data.bank.mean(0))
