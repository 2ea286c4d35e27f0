"""Combine a prompt with other prompts, a reference image and a negative prompt.

Text and images share one space of vectors, so all of these are vectors, mixed before the denoiser sees them (a point
between two vectors) or after (a weighted sum of its predictions for each).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captionless.diffusion.guidance import WeightedCondition
from captionless.errors import CaptionlessError


@dataclass(frozen=True)
class Composition:
    """The conditions to combine with every prompt of a request; every part is optional.

    Args:
        negative: words to guide away from, in place of the null condition.
        also: further prompts and their weights, added to the prompt with its weight of 1; the predictions for all are
            summed (Composable Diffusion, arXiv:2206.01714). A negative weight guides away.
        then: another prompt that takes over after the share ``switch`` of the time from noise to image.
        switch: in (0, 1); after an early switch only the coarse shapes of the first prompt remain.
        towards: a second prompt to blend to. The images of a prompt are evenly spaced between the two prompts, the last
            one at ``towards``, and are sampled from the same noise. A single image lies halfway.
        like: a reference image.
        like_share: its share in the mixture with the prompt, in [0, 1]; without a prompt it is 1.

    Raises:
        CaptionlessError: a value is empty or out of range, or two of them contradict each other.
    """

    negative: str | None = None
    also: tuple[tuple[str, float], ...] = ()
    then: str | None = None
    switch: float = 0.5
    towards: str | None = None
    like: Image.Image | None = None
    like_share: float = 0.5

    def __post_init__(self) -> None:
        """Check that every value can be sampled."""
        texts = {"negative": [self.negative], "then": [self.then], "towards": [self.towards]}
        texts["also"] = [text for text, _ in self.also]
        for parameter, values in texts.items():
            if any(text is not None and not text.strip() for text in values):
                raise CaptionlessError(f"`{parameter}` is empty. Write a prompt, or leave it out.", parameter=parameter)
        if not 0 < self.switch < 1:
            raise _invalid("switch", f"be above 0 and below 1, not {self.switch}. Try `switch=0.5`")
        if not 0 <= self.like_share <= 1:
            raise _invalid("like_share", f"be from 0 to 1, not {self.like_share}. Try `like_share=0.5`")
        if any(not (math.isfinite(weight) and weight) for _, weight in self.also):
            raise _invalid("also", 'have weights other than 0. Try `also="a meadow:0.5"`')
        if self.then and self.towards:
            raise CaptionlessError("`then` and `towards` both determine how an image ends. Choose one of them.")


def _invalid(parameter: str, rule: str) -> CaptionlessError:
    return CaptionlessError(f"`{parameter}` must {rule}.", parameter=parameter)


def compose(
    vectors: Tensor, n: int, composition: Composition, words: Callable[[Sequence[str]], Tensor], start: float = 1.0
) -> tuple[list[WeightedCondition], Tensor | None]:
    """Return the weighted conditions of all images, and the negative condition, if any.

    Args:
        vectors: the condition that each image has from its prompt, (total, d), ``n`` successive ones per prompt.
        n: images per prompt.
        composition: what to combine with each prompt.
        words: turns texts into conditions, (k, d).
        start: the time at which the denoising begins.
    """
    total = len(vectors)
    if composition.towards:
        shares = torch.tensor(towards_shares(n)).repeat(total // n).unsqueeze(1)
        vectors = slerp(vectors, words([composition.towards]).expand(total, -1), shares)

    def everywhere(text: str) -> Tensor:
        return words([text]).expand(total, -1)

    # Time falls from start to 0.
    switch = start * (1 - composition.switch)
    conditions = [WeightedCondition(vectors, interval=(switch, 1.0) if composition.then else (0.0, 1.0))]
    if composition.then:
        conditions.append(WeightedCondition(everywhere(composition.then), interval=(0.0, switch)))
    conditions += [WeightedCondition(everywhere(text), weight) for text, weight in composition.also]
    return conditions, everywhere(composition.negative) if composition.negative else None


def towards_shares(n: int) -> list[float]:
    """Return how far each of ``n`` images is from its prompt (0) towards ``Composition.towards`` (1)."""
    return [i / (n - 1) for i in range(n)] if n > 1 else [0.5]


def slerp(a: Tensor, b: Tensor, share: Tensor | float) -> Tensor:
    """Return unit vectors on the great circle from ``a`` (share 0) to ``b`` (share 1), all (n, d).

    Spherical interpolation (Shoemake, "Animating rotation with quaternion curves", 1985): a straight line would
    leave the sphere on which all vectors of the space lie.
    """
    angle = torch.arccos((a * b).sum(1, keepdim=True).clamp(-1, 1))
    sine = angle.sin()
    near = sine < 1e-4
    safe = torch.where(near, torch.ones_like(sine), sine)
    mixed = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / safe
    return torch.nn.functional.normalize(torch.where(near, (1 - share) * a + share * b, mixed), dim=1)
