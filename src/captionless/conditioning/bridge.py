"""The bridge, which maps text embeddings to image embeddings that the denoiser can be conditioned on.

The denoiser is trained on image embeddings. Text and image embeddings occupy two separate cones of the shared space
(the modality gap, arXiv:2203.02053), so a text embedding is only roughly aligned with the embeddings of matching
images. In addition, many images match one text. The bridge therefore maps a text to a distribution over image
embeddings, from which each generated image draws its condition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError

BANDWIDTH = 0.15
"""Bandwidth of the weights, in standard deviations of the scores of all training images."""
TEXT_SHARE = 0.4
"""Share of the similarity to the text in the scores of mean-shift iterations; the rest is the similarity to the others.
"""
MANY = 1000
"""Number of training images from which this share holds. Of fewer, the density says less, and the text counts for more.
"""
FEWEST = 6
"""Minimum effective number (perplexity) of images in a neighbourhood, from ``MANY`` training images on; of fewer, less.
"""
LARGEST_SHARE = 0.25
"""Maximum weight of an image, from ``LARGE`` training images on; of fewer, more, but at most one half."""
LARGE = 400
"""Number of training images from which several can be expected to match every prompt."""
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

    def agreement(self) -> Tensor:
        """Return the cosine similarity of every training image to the mean of the neighbourhood without it, (n, m).

        Leaving an image out of the mean that it is compared with keeps it from vouching for itself.
        """
        mean = F.embedding_bag(self.indices, self.bank, mode="sum", per_sample_weights=self.weights)
        products = mean @ self.bank.T
        own = torch.zeros_like(products).scatter_add_(1, self.indices, self.weights)
        squared = mean.square().sum(1, keepdim=True) - 2 * own * products + own.square()
        return (products - own) / squared.clamp_min(1e-6).sqrt()

    def _mixtures(self, weights: Tensor) -> Tensor:
        return F.normalize(F.embedding_bag(self.indices, self.bank, mode="sum", per_sample_weights=weights), dim=1)


def nearest(text: Tensor, bank: Tensor, neighbours: int = 32, mean_shift_iterations: int = 4) -> Neighbourhood:
    """Find the training images that match each text, and weight them.

    Conditioning on retrieved image embeddings follows kNN-Diffusion (arXiv:2204.02849). The weights are a softmax of
    the cosine similarities, divided by their standard deviation over the bank so that no constant depends on the scale
    of an encoder.

    For a short text ("a daisy"), images of several kinds can have similar cosine similarities, because the modality gap
    is larger than the distances between images. Mean-shift iterations (Fukunaga & Hostetler, "The estimation of the
    gradient of a density function", 1975) repeat the search from the mean of the neighbourhood and from the text. They
    move towards regions with many images and discard outliers. In a small bank, few images match each text and the
    densest region is often of another kind, so the share of the mean grows with the bank. Each image is compared with
    the mean of the others: otherwise, the image with the largest weight would be closest to a mean that is mostly
    itself.

    Args:
        text: unit text vectors, (n, d).
        bank: unit image vectors of the training images, (m, d).
        neighbours: maximum effective number (perplexity) of images in a neighbourhood.
        mean_shift_iterations: number of times that the search is repeated.
    """
    to_text, share = _standardised(text @ bank.T), text_share(len(bank))
    found = _weigh(to_text, bank, neighbours)
    for _ in range(mean_shift_iterations):
        to_others = _standardised(found.agreement())
        found = _weigh(share * to_text + (1 - share) * to_others, bank, neighbours)
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


def text_share(images: int) -> float:
    """Return the share of the text in mean-shift iterations, given the number of images in the bank."""
    return 1 - (1 - TEXT_SHARE) * min(1.0, images / MANY)


def largest_share(images: int) -> float:
    """Return the maximum weight of an image, given the number of images in the bank."""
    return min(LARGEST_SHARE * max(1.0, math.sqrt(LARGE / images)), 0.5)


def fewest(images: int) -> float:
    """Return the minimum effective number of images in a neighbourhood, given the number of images in the bank."""
    return FEWEST * min(1.0, images / MANY)


def _standardised(scores: Tensor) -> Tensor:
    """Divide each row by its standard deviation."""
    return scores / scores.std(dim=1, correction=0, keepdim=True).clamp_min(1e-6)


def _weigh(scores: Tensor, bank: Tensor, neighbours: int) -> Neighbourhood:
    """Select and weight the images of the bank by their scores, (n, m)."""
    # Beyond 8 times the effective number of neighbours, the weights are negligible.
    nearby, indices = _standardised(scores).topk(min(8 * neighbours, len(bank)), dim=1)
    nearby = nearby.double() / BANDWIDTH
    weights = _softmax(nearby, fewest(len(bank)), neighbours)
    largest = max(largest_share(len(bank)), 1 / neighbours)
    return Neighbourhood(bank, indices, _limit(weights, largest).to(bank.dtype))


def _softmax(scores: Tensor, fewest: float, most: float) -> Tensor:
    """Return softmax(scores / T), with the T closest to 1 at which the perplexity (exp of the entropy) is in bounds.

    T is found by bisection, as in t-SNE (van der Maaten & Hinton, "Visualizing data using t-SNE", 2008).
    """
    found = _perplexity(torch.softmax(scores, dim=1))
    wanted = found.clamp(fewest, most)
    low, high = -12 * (wanted < found).to(scores), 12 * (wanted > found).to(scores)  # in bounds already: T = 1
    for _ in range(60):
        middle = (low + high) / 2
        wide = _perplexity(torch.softmax(scores / middle.exp().unsqueeze(1), dim=1)) > wanted
        low, high = torch.where(wide, low, middle), torch.where(wide, middle, high)
    return torch.softmax(scores / low.exp().unsqueeze(1), dim=1)


def _perplexity(weights: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(weights).sum(1)
    return entropy.exp()


def _limit(weights: Tensor, largest: float) -> Tensor:
    """Limit the weights of each row, in descending order, to ``largest``, and scale the others up to a sum of 1.

    This is water-filling: with the k largest at the limit, the others are scaled by (1 - k largest) / (their sum), and
    k is the smallest number for which none of them exceeds the limit.
    """
    k = weights.shape[1]
    largest = max(largest, 1 / k)
    weights = weights.clamp_min(1e-100)  # so that a sum of others is never 0
    others = weights.flip(1).cumsum(1).flip(1)
    scale = (1 - largest * torch.arange(k).to(weights)).clamp_min(0) / others
    limited = (weights * scale > largest).sum(1, keepdim=True).clamp_max(k - 1)
    return (weights * scale.gather(1, limited)).clamp_max(largest)
