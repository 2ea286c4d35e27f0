"""What a picture is to show beside its prompt: other prompts, a reference picture, what to avoid.

Words and pictures share one space of vectors, so all of these are vectors, mixed before the denoiser sees them
(a point between two vectors) or after (a weighted sum of what it predicts for each).
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
    """What goes with every prompt of a request. Nothing of it is needed.

    Args:
        negative: words to lean away from, in place of the null condition.
        also: further prompts and their weights, beside the prompt's own weight of 1; the predictions for all are summed
            (Composable Diffusion, arXiv:2206.01714). A negative weight leans away.
        then: another prompt that takes over after the share ``switch`` of the way, in time, from noise to picture.
        switch: in (0, 1); an early switch keeps only the prompt's coarse shapes.
        towards: the prompt that the last of a prompt's pictures shows; those before lie evenly in between, painted
            from the same noise. A single picture lies half way.
        like: a reference picture.
        like_share: how much of it is in the mixture with the prompt, in [0, 1]; without a prompt it is all.
    """

    negative: str | None = None
    also: tuple[tuple[str, float], ...] = ()
    then: str | None = None
    switch: float = 0.5
    towards: str | None = None
    like: Image.Image | None = None
    like_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be painted."""
        said = [self.negative, self.then, self.towards, *(text for text, _ in self.also)]
        if any(text is not None and not text.strip() for text in said):
            raise CaptionlessError("an empty --negative, --also, --then or --towards says nothing. Leave it out.")
        if not 0 < self.switch < 1:
            raise CaptionlessError(f"--switch must lie between 0 and 1, not {self.switch}. Try 0.5.")
        if not 0 <= self.like_share <= 1:
            raise CaptionlessError(f"--like-share must lie in [0, 1], not {self.like_share}. Try 0.5.")
        if any(not (math.isfinite(weight) and weight) for _, weight in self.also):
            raise CaptionlessError('a weight in --also must be a number other than 0. Try "a meadow:0.5".')
        if self.then and self.towards:
            raise CaptionlessError("--then and --towards both want the end of the picture. Choose one of them.")


def compose(
    prompts: Sequence[str],
    n: int,
    composition: Composition,
    words: Callable[[Sequence[str]], Tensor],
    like: Tensor | None,
    start: float = 1.0,
) -> tuple[list[WeightedCondition], Tensor | None]:
    """Return the parts of every picture, ``n`` a prompt, and the negative condition, if any.

    Args:
        prompts: texts; one of them may be empty where there is a reference picture.
        n: pictures a prompt.
        composition: what goes with each prompt.
        words: turns texts into conditions, (k, d).
        like: the condition of the reference picture, (1, d).
        start: the time at which the denoising begins.
    """
    vectors = _mixed(prompts, composition, words, like).repeat_interleave(n, dim=0)
    total = len(vectors)
    if composition.towards:
        shares = torch.tensor(towards_shares(n)).repeat(len(prompts)).unsqueeze(1)
        vectors = slerp(vectors, words([composition.towards]).expand(total, -1), shares)

    def everywhere(text: str) -> Tensor:
        return words([text]).expand(total, -1)

    # Time falls from start to 0.
    switch = start * (1 - composition.switch)
    parts = [WeightedCondition(vectors, interval=(switch, 1.0) if composition.then else (0.0, 1.0))]
    if composition.then:
        parts.append(WeightedCondition(everywhere(composition.then), interval=(0.0, switch)))
    parts += [WeightedCondition(everywhere(text), weight) for text, weight in composition.also]
    return parts, everywhere(composition.negative) if composition.negative else None


def towards_shares(n: int) -> list[float]:
    """Return how far each of ``n`` pictures is on the way from its prompt (0) to ``Composition.towards`` (1)."""
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


def _mixed(
    prompts: Sequence[str], composition: Composition, words: Callable[[Sequence[str]], Tensor], like: Tensor | None
) -> Tensor:
    if like is None:
        return words(prompts)
    vectors, spoken = like.repeat(len(prompts), 1), [bool(text.strip()) for text in prompts]
    if any(spoken):
        texts = words([text for text in prompts if text.strip()])
        vectors[spoken] = slerp(texts, vectors[spoken], composition.like_share)
    return vectors
