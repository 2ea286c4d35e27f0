"""From text vector to condition: closing the modality gap.

The denoiser is trained on image vectors. A matching text vector points the same way only roughly: texts
and pictures fill two separate cones of the shared space (arXiv:2203.02053). A bridge moves a text vector
to where image vectors live.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.errors import one_of
from captionless.sampling import BRIDGES


def nearest(text: Tensor, bank: Tensor, temperature: float, neighbours: int = 20) -> Tensor:
    """Replace each text vector by a weighted mean of the training pictures' vectors closest to it.

    In the manner of kNN-Diffusion (arXiv:2204.02849), with a softmax over the cosines so that the
    closest count most.

    Args:
        text: unit vectors, (n, d).
        bank: unit image vectors of the training pictures, (m, d).
        temperature: of the softmax; the encoder's own contrastive one, ``1 / logit_scale``.
        neighbours: how many take part.

    Returns:
        Unit vectors, (n, d).
    """
    cosines, indices = (text @ bank.T).topk(min(neighbours, len(bank)), dim=1)
    weights = torch.softmax(cosines / temperature, dim=1)
    return F.normalize((weights.unsqueeze(-1) * bank[indices]).sum(1), dim=1)


def to_condition(text: Tensor, bank: Tensor, temperature: float, bridge: str = "nearest") -> Tensor:
    """Apply the bridge called ``bridge`` to unit text vectors (n, d); see ``captionless.sampling.BRIDGES``."""
    one_of("bridge", bridge, BRIDGES)
    return text if bridge == "none" else nearest(text, bank, temperature)
