"""The bridge, which maps text embeddings to image embeddings that the denoiser can be conditioned on.

The denoiser is trained on image embeddings. Text and image embeddings occupy two separate cones of the shared space
(the modality gap, arXiv:2203.02053), so a text embedding is only roughly aligned with the embeddings of matching
images. In addition, many images match one text. The bridge therefore maps a text to a distribution over image
embeddings, from which each generated image draws its condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError

BANDWIDTH = 0.2
"""Bandwidth of the weights, in standard deviations of a text's cosine similarities to all training images."""
FEWEST = 4
"""Minimum effective number of images in a neighbourhood, if the training set has as many."""
LARGEST_SHARE = 0.5
"""Maximum weight of an image, unless it is the only one."""
DRAWS = 0x64726177
"""Combined with the seed of an image, so that its condition and its noise use independent random streams."""


@dataclass(frozen=True)
class BridgeData:
    """The embeddings that a model stores for its bridges.

    Args:
        bank: unit image vectors of the training images, (m, d).
        text_mean: mean of the unit text vectors of prompts about the images' subjects, (d,); None if not available.
    """

    bank: Tensor
    text_mean: Tensor | None = None


@dataclass(frozen=True)
class Neighbourhood:
    """The training images that match each of n texts, with weights.

    Args:
        bank: unit image vectors of the training images, (m, d).
        indices: rows of ``bank`` for each text, best match first, (n, k).
        weights: non-negative weights, which sum to 1 for each text, (n, k).
    """

    bank: Tensor
    indices: Tensor
    weights: Tensor

    def centre(self) -> Tensor:
        """Return the normalised weighted mean of each neighbourhood, unit vectors (n, d)."""
        return self._mixtures(self.weights)

    def draw(self, variety: float, seeds: Sequence[int]) -> Tensor:
        """Draw one random mixture of the images in each neighbourhood, unit vectors (n, d).

        The mixture weights follow a Dirichlet distribution with mean ``weights`` and total concentration
        (1 - variety) / variety, so a weight w has the variance ``variety`` * w(1 - w). A variety of 0 gives the centre;
        a variety of 1 gives a single image, drawn with its weight as probability.

        Args:
            variety: from 0 to 1.
            seeds: n integers; the result for a seed does not depend on the batch.
        """
        if not variety:
            return self.centre()
        concentration = max((1 - variety) / variety, 1e-6)
        drawn = [
            np.random.default_rng([DRAWS, seed]).dirichlet((concentration * row.double()).clamp_min(1e-12).numpy())
            for row, seed in zip(self.weights.cpu(), seeds, strict=True)
        ]
        return self._mixtures(torch.from_numpy(np.stack(drawn)).to(self.weights))

    def _mixtures(self, weights: Tensor) -> Tensor:
        return F.normalize(F.embedding_bag(self.indices, self.bank, mode="sum", per_sample_weights=weights), dim=1)


def nearest(text: Tensor, bank: Tensor, neighbours: int = 32, mean_shift_iterations: int = 2) -> Neighbourhood:
    """Find the training images that match each text, and weight them.

    Conditioning on retrieved image embeddings follows kNN-Diffusion (arXiv:2204.02849). The weights are a softmax of
    the cosine similarities, divided by their standard deviation over the bank so that no constant depends on the scale
    of an encoder.

    For a short text ("a daisy"), images of several kinds can have similar cosine similarities, because the modality gap
    is larger than the distances between images. Mean-shift iterations (Fukunaga & Hostetler, "The estimation of the
    gradient of a density function", 1975) repeat the search from the centre of the neighbourhood. They move towards
    regions with many images and discard outliers.

    Args:
        text: unit text vectors, (n, d).
        bank: unit image vectors of the training images, (m, d).
        neighbours: maximum effective number (perplexity) of images in a neighbourhood.
        mean_shift_iterations: number of times that the search is repeated.
    """
    found = _search(text, bank, neighbours)
    for _ in range(mean_shift_iterations):
        found = _search(found.centre(), bank, neighbours)
    return found


def shift_by_means(text: Tensor, text_mean: Tensor, image_mean: Tensor) -> Tensor:
    """Shift text vectors by the difference between the mean image and text vectors, and renormalise.

    The modality gap is mostly a constant vector (C3, arXiv:2401.08567, which subtracts both means). Both means must
    be computed on the same subjects. With texts about arbitrary subjects and images of flowers, the shift would also
    add the features that all flowers share.

    Args:
        text: unit text vectors, (n, d).
        text_mean: mean text vector, (d,).
        image_mean: mean image vector, (d,).

    Returns:
        Unit vectors, (n, d).
    """
    return F.normalize(text - text_mean + image_mean, dim=1)


def to_condition(
    text: Tensor, bridge_data: BridgeData, config: SamplingConfig | None = None, seeds: Sequence[int] | None = None
) -> Tensor:
    """Map text vectors to condition vectors with the bridge selected in ``config``.

    Args:
        text: unit text vectors, (n, d).
        bridge_data: the bridge data of the model.
        config: sampling settings, of which the bridge and its options are used.
        seeds: n integers from which the bridge ``nearest`` draws the conditions. By default, the conditions are the
            centres of the neighbourhoods. The other bridges are deterministic.

    Returns:
        Condition vectors, (n, d).

    Raises:
        CaptionlessError: the bridge ``mean`` is selected, but the model has no mean text vector.
    """
    config = config or SamplingConfig()
    match config.bridge:
        case "nearest":
            # The images of a prompt share one search.
            distinct, rows = torch.unique(text, dim=0, return_inverse=True)
            found = nearest(distinct, bridge_data.bank, config.neighbours, config.mean_shift_iterations)
            found = replace(found, indices=found.indices[rows], weights=found.weights[rows])
            return found.centre() if seeds is None else found.draw(config.variety, seeds)
        case "mean":
            if bridge_data.text_mean is None:
                raise CaptionlessError(
                    "the bridge `mean` needs a mean text vector, which the model does not have. Try `bridge=nearest`.",
                    parameter="bridge",
                )
            return shift_by_means(text, bridge_data.text_mean, bridge_data.bank.mean(0))
    return text


def _search(vectors: Tensor, bank: Tensor, neighbours: int) -> Neighbourhood:
    """Weight the images of the bank by their cosine similarities to each vector."""
    cosines = vectors @ bank.T
    deviation = cosines.std(dim=1, correction=0, keepdim=True).clamp_min(1e-6)
    # Beyond 8 times the effective number of neighbours, the weights are negligible.
    nearby, indices = cosines.topk(min(8 * neighbours, len(bank)), dim=1)
    scores = (nearby / deviation / BANDWIDTH).double()
    perplexity = _perplexity(torch.softmax(scores, dim=1))
    weights = _softmax_of_perplexity(scores, perplexity.clamp(min(FEWEST, neighbours), neighbours))
    return Neighbourhood(bank, indices, _limit(weights, max(LARGEST_SHARE, 1 / neighbours)).to(bank.dtype))


def _perplexity(weights: Tensor) -> Tensor:
    """Return the perplexity of each row of weights, i.e. the exponential of the entropy, (n,)."""
    perplexity: Tensor = torch.special.entr(weights).sum(1).exp()
    return perplexity


def _softmax_of_perplexity(scores: Tensor, perplexity: Tensor) -> Tensor:
    """Return softmax(scores / T), with T chosen so that each row has the given perplexity, (n,).

    T is found by bisection, as in t-SNE (van der Maaten & Hinton, "Visualizing data using t-SNE", 2008).
    """
    low, high = torch.full_like(perplexity, -12.0), torch.full_like(perplexity, 12.0)
    for _ in range(50):
        middle = (low + high) / 2
        wide = _perplexity(torch.softmax(scores / middle.exp().unsqueeze(1), dim=1)) > perplexity
        low, high = torch.where(wide, low, middle), torch.where(wide, middle, high)
    return torch.softmax(scores / low.exp().unsqueeze(1), dim=1)


def _limit(weights: Tensor, largest: float) -> Tensor:
    """Clip the first (largest) weight of each row, and distribute the excess in proportion to the other weights."""
    top, rest = weights[:, :1], weights[:, 1:]
    if not rest.shape[1]:
        return weights
    top = top.clamp_max(largest)
    return torch.cat([top, rest * (1 - top) / rest.sum(1, keepdim=True).clamp_min(1e-300)], dim=1)
