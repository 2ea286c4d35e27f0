"""From text vector to condition: closing the modality gap.

The denoiser is trained on image vectors. A matching text vector points the same way only roughly: texts and images fill
two separate cones of the shared space (arXiv:2203.02053). A bridge moves a text vector to where image vectors are.
``docs/ablations.md`` measures the bridges; ``captionless.config.sampling`` holds the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class BridgeData:
    """The data that a model stores for its bridges: where its training images lie in the shared space.

    Args:
        bank: unit image vectors of training images, (m, d).
        temperature: temperature of the encoder's contrastive softmax, ``1 / logit_scale``.
        text_mean: mean of the unit vectors of prompts about the images' subjects, (d,); None if the model has none.
    """

    bank: Tensor
    temperature: float
    text_mean: Tensor | None = None


def nearest(
    text: Tensor, bank: Tensor, temperature: float, neighbours: int = 100, mean_shift_iterations: int = 0
) -> Tensor:
    """Replace each text vector by a weighted mean of the training images' vectors nearest to it.

    In the manner of kNN-Diffusion (arXiv:2204.02849), with a softmax over the cosines so that the nearest count most.

    For a short text ("a daisy"), images of several kinds can be about equally near, because the gap between texts and
    images is wider than the distances among images; their mean is then unlike any image. Mean-shift iterations
    (Fukunaga & Hostetler, "The estimation of the gradient of a density function", 1975) move it to the mean of the
    images nearest to itself, again and again, which leads to where images are dense.

    Args:
        text: unit vectors, (n, d).
        bank: unit image vectors of the training images, (m, d).
        temperature: temperature of the softmax; ``1 / logit_scale`` is that of the encoder's contrastive softmax.
        neighbours: the number of vectors averaged.
        mean_shift_iterations: number of times that the mean is replaced by the mean of its own nearest vectors.

    Returns:
        Unit vectors, (n, d).
    """
    mean = text
    for _ in range(1 + mean_shift_iterations):
        cosines, indices = (mean @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        weights = torch.softmax(cosines / temperature, dim=1)
        mean = F.normalize((weights.unsqueeze(-1) * bank[indices]).sum(1), dim=1)
    return mean


def shift_by_means(text: Tensor, text_mean: Tensor, image_mean: Tensor) -> Tensor:
    """Move text vectors by the difference of the two cones' means, and back to unit length.

    The gap is mostly one constant vector (as C3 finds, arXiv:2401.08567, which subtracts both means). Both means must
    be of the same subjects: with texts about everything and images of flowers, the shift would add what flowers have in
    common.

    Args:
        text: unit vectors, (n, d).
        text_mean: (d,).
        image_mean: (d,).

    Returns:
        Unit vectors, (n, d).
    """
    return F.normalize(text - text_mean + image_mean, dim=1)


def to_condition(text: Tensor, bridge_data: BridgeData, config: SamplingConfig | None = None) -> Tensor:
    """Move unit text vectors (n, d) to conditions by the bridge that ``config`` chooses.

    The nearest images of a small bank get no mean-shift iterations: among few (150, say), one would outweigh all others
    as soon as the mean is near it, and the mean would become a single training image's own vector.

    Raises:
        CaptionlessError: the model lacks the mean that the bridge ``mean`` needs.
    """
    config = config or SamplingConfig()
    bank = bridge_data.bank
    match config.bridge:
        case "nearest":
            iterations = config.mean_shift_iterations if len(bank) >= config.mean_shift_minimum else 0
            return nearest(text, bank, bridge_data.temperature, config.neighbours, iterations)
        case "mean":
            if bridge_data.text_mean is None:
                raise CaptionlessError(
                    "the model has no mean of text vectors, which the bridge `mean` needs (an older version wrote it). "
                    "Try `bridge=nearest`, or train it on with `start_from`.",
                    parameter="bridge",
                )
            return shift_by_means(text, bridge_data.text_mean, bank.mean(0))
    return text
