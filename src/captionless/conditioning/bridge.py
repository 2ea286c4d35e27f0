"""From text vectors to conditions: mixtures of the training images' vectors that agree with the words.

The denoiser is trained on image vectors. A matching text vector points the same way only roughly: texts and images fill
two separate cones of the shared space (arXiv:2203.02053). And a text fits many images. So what is to be found is not
one image vector but a distribution of them, from which each image of a prompt draws its condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError

BANDWIDTH = 0.2
"""Bandwidth of the weights, in standard deviations of a text's cosines to all training images."""
FEWEST = 4
"""Smallest effective number of images in a neighbourhood, where there are so many."""
LARGEST_SHARE = 0.5
"""No image has a larger weight, unless it is the only one."""
DRAWS = 0x64726177
"""Mixed with the seed of an image, so that its condition and its noise come from separate streams."""


@dataclass(frozen=True)
class BridgeData:
    """The data that a model stores for its bridges: where its training images lie in the shared space.

    Args:
        bank: unit image vectors of training images, (m, d).
        text_mean: mean of the unit vectors of prompts about the images' subjects, (d,); None if unknown.
    """

    bank: Tensor
    text_mean: Tensor | None = None


@dataclass(frozen=True)
class Neighbourhood:
    """The training images that agree with each of n texts.

    Args:
        bank: unit image vectors of the training images, (m, d).
        indices: the images of each text, rows of ``bank``, (n, k); the best first.
        weights: how well each agrees, (n, k); non-negative, with a sum of 1 per text.
    """

    bank: Tensor
    indices: Tensor
    weights: Tensor

    def centre(self) -> Tensor:
        """Return the weighted mean of each neighbourhood, unit vectors (n, d)."""
        return self._mixtures(self.weights)

    def draw(self, variety: float, seeds: Sequence[int]) -> Tensor:
        """Draw one mixture of each neighbourhood, unit vectors (n, d).

        The weights of a mixture follow a Dirichlet distribution whose mean is ``weights`` and whose concentration is
        (1 - variety) / variety: their variance is w(1 - w) times ``variety``. So 0 gives the centre, and 1 a single
        image, drawn with a probability of its weight.

        Args:
            variety: from 0 to 1.
            seeds: n whole numbers; a seed draws the same in any batch.
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
    """Find the training images that agree with each text, and weight them.

    Retrieved image vectors as conditions follow kNN-Diffusion (arXiv:2204.02849). The weights are a softmax of the
    cosines in units of their standard deviation over the bank, so that no constant depends on an encoder's scale.

    For a short text ("a daisy"), images of several kinds can be about equally near, because the gap between texts and
    images is wider than the distances among images. Mean-shift iterations (Fukunaga & Hostetler, "The estimation of the
    gradient of a density function", 1975) repeat the search from the centre of the neighbourhood, itself an image
    vector: they lead to where images are dense, and drop those that do not fit the others.

    Args:
        text: unit vectors, (n, d).
        bank: unit image vectors of the training images, (m, d).
        neighbours: largest effective number (perplexity) of images in a neighbourhood.
        mean_shift_iterations: how often the search is repeated.
    """
    found = _search(text, bank, neighbours)
    for _ in range(mean_shift_iterations):
        found = _search(found.centre(), bank, neighbours)
    return found


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


def to_condition(
    text: Tensor, bridge_data: BridgeData, config: SamplingConfig | None = None, seeds: Sequence[int] | None = None
) -> Tensor:
    """Move unit text vectors (n, d) to conditions (n, d) by the bridge that ``config`` chooses.

    Args:
        text: unit vectors, (n, d).
        bridge_data: of the model.
        config: bridge and variety.
        seeds: n whole numbers from which the conditions are drawn; without them, conditions are the centres of the
            neighbourhoods. Only the bridge ``nearest`` draws.

    Raises:
        CaptionlessError: the model lacks the mean that the bridge ``mean`` needs.
    """
    config = config or SamplingConfig()
    match config.bridge:
        case "nearest":
            found = nearest(text, bridge_data.bank, config.neighbours, config.mean_shift_iterations)
            return found.centre() if seeds is None else found.draw(config.variety, seeds)
        case "mean":
            if bridge_data.text_mean is None:
                raise CaptionlessError(
                    "the model has no mean of text vectors, which the bridge `mean` needs. Try `bridge=nearest`.",
                    parameter="bridge",
                )
            return shift_by_means(text, bridge_data.text_mean, bridge_data.bank.mean(0))
    return text


def _search(vectors: Tensor, bank: Tensor, neighbours: int) -> Neighbourhood:
    """Weight the images of the bank by their cosines to each vector."""
    cosines = vectors @ bank.T
    deviation = cosines.std(dim=1, correction=0, keepdim=True).clamp_min(1e-6)
    # Beyond eight times the effective number the weights are negligible.
    nearby, indices = cosines.topk(min(8 * neighbours, len(bank)), dim=1)
    scores = (nearby / deviation / BANDWIDTH).double()
    perplexity = _perplexity(torch.softmax(scores, dim=1))
    weights = _softmax_of_perplexity(scores, perplexity.clamp(min(FEWEST, neighbours), neighbours))
    return Neighbourhood(bank, indices, _limit(weights, max(LARGEST_SHARE, 1 / neighbours)).to(bank.dtype))


def _perplexity(weights: Tensor) -> Tensor:
    """Return the effective number of each row's weights, the exponential of their entropy, (n,)."""
    perplexity: Tensor = torch.special.entr(weights).sum(1).exp()
    return perplexity


def _softmax_of_perplexity(scores: Tensor, perplexity: Tensor) -> Tensor:
    """Return softmax(scores / T) with the T for each row that gives its perplexity (n,), found by bisection.

    As in t-SNE (van der Maaten & Hinton, "Visualizing data using t-SNE", 2008).
    """
    low, high = torch.full_like(perplexity, -12.0), torch.full_like(perplexity, 12.0)
    for _ in range(50):
        middle = (low + high) / 2
        wide = _perplexity(torch.softmax(scores / middle.exp().unsqueeze(1), dim=1)) > perplexity
        low, high = torch.where(wide, low, middle), torch.where(wide, middle, high)
    return torch.softmax(scores / low.exp().unsqueeze(1), dim=1)


def _limit(weights: Tensor, largest: float) -> Tensor:
    """Give what exceeds the largest share to the other images, in proportion to their weights."""
    top, rest = weights[:, :1], weights[:, 1:]
    if not rest.shape[1]:
        return weights
    top = top.clamp_max(largest)
    return torch.cat([top, rest * (1 - top) / rest.sum(1, keepdim=True).clamp_min(1e-300)], dim=1)
