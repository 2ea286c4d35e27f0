"""Combine a prompt with other prompts, a reference image and a negative prompt.

Texts and images share one embedding space, so prompts and reference images are all condition vectors. They are combined
either before the denoiser, by interpolating vectors, or after it, by a weighted sum of its predictions.
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
    """The conditions to combine with every prompt of a request. All are optional.

    Args:
        negative: a prompt to guide away from, in place of the null condition.
        also: further prompts with their weights; the prompt itself has weight 1. The weighted predictions are summed
            (Composable Diffusion, arXiv:2206.01714). A negative weight guides away from a prompt.
        then: a second prompt that replaces the prompt part of the way through sampling.
        switch: the fraction of sampling after which ``then`` replaces the prompt, in (0, 1). After an early switch,
            only the coarse layout of the first prompt remains.
        towards: a second prompt to interpolate to. The images of a prompt start from the same noise and are evenly
            spaced between the two prompts, the last one at ``towards``. A single image lies halfway.
        towards_share: where all images lie between the prompt (0) and ``towards`` (1), instead of evenly spaced. Each
            then has noise of its own.
        like: a reference image, or several, of which the mean of their vectors counts.
        like_share: the weight of the reference images relative to the prompt, in [0, 1]. If the prompt is empty, only
            the reference images are used.

    Raises:
        CaptionlessError: a prompt is empty, a value is out of range, or ``then`` and ``towards`` are combined.
    """

    negative: str | None = None
    also: tuple[tuple[str, float], ...] = ()
    then: str | None = None
    switch: float = 0.5
    towards: str | None = None
    towards_share: float | None = None
    like: Image.Image | Sequence[Image.Image] | None = None
    like_share: float = 0.5

    def __post_init__(self) -> None:
        texts = {"negative": [self.negative], "then": [self.then], "towards": [self.towards]}
        texts["also"] = [text for text, _ in self.also]
        for parameter, values in texts.items():
            if any(text is not None and not text.strip() for text in values):
                raise CaptionlessError(f"`{parameter}` is empty. Write a prompt, or omit it.", parameter=parameter)
        if not 0 < self.switch < 1:
            raise _invalid("switch", f"be above 0 and below 1, not {self.switch}. Try `switch=0.5`")
        for parameter, share in {"like_share": self.like_share, "towards_share": self.towards_share}.items():
            if share is not None and not 0 <= share <= 1:
                raise _invalid(parameter, f"be from 0 to 1, not {share}. Try `{parameter}=0.5`")
        if any(not (math.isfinite(weight) and weight) for _, weight in self.also):
            raise _invalid("also", 'have finite, non-zero weights. Try `also="a meadow:0.5"`')
        if self.then and self.towards:
            raise CaptionlessError("`then` and `towards` cannot be combined. Choose one of them.")
        if self.towards_share is not None and not self.towards:
            raise _invalid("towards_share", "not be given without `towards`. Add a prompt to interpolate to")

    @property
    def references(self) -> list[Image.Image]:
        """The reference images."""
        return [self.like] if isinstance(self.like, Image.Image) else list(self.like or ())

    @property
    def walks(self) -> bool:
        """Whether the images of a prompt walk from it to ``towards``, all from the same noise."""
        return bool(self.towards) and self.towards_share is None

    def shares(self, n: int) -> list[float]:
        """Return the interpolation weights of the ``n`` images of a prompt, from it (0) to ``towards`` (1)."""
        return towards_shares(n) if self.towards_share is None else [self.towards_share] * n


def _invalid(parameter: str, rule: str) -> CaptionlessError:
    return CaptionlessError(f"`{parameter}` must {rule}.", parameter=parameter)


def compose(
    vectors: Tensor, n: int, composition: Composition, words: Callable[[Sequence[str]], Tensor], start: float = 1.0
) -> tuple[list[WeightedCondition], Tensor | None]:
    """Return the weighted conditions of all images and, if requested, the negative condition.

    Args:
        vectors: condition vectors of the prompts, one per image, (total, d), with ``n`` consecutive rows per prompt.
        n: number of images per prompt.
        composition: the conditions to combine with each prompt.
        words: encodes k texts as condition vectors, (k, d).
        start: the time at which denoising starts.
    """
    total = len(vectors)

    def everywhere(parameter: str, text: str) -> Tensor:
        try:
            return words([text]).expand(total, -1)
        except CaptionlessError as error:  # which does not say that another text than the prompt is meant
            raise CaptionlessError(f"`{parameter}`: {error}", parameter=parameter, code=error.code) from error

    if composition.towards:
        shares = torch.tensor(composition.shares(n)).repeat(total // n).unsqueeze(1)
        vectors = slerp(vectors, everywhere("towards", composition.towards), shares)

    # Denoising runs from time start to 0.
    switch = start * (1 - composition.switch)
    conditions = [WeightedCondition(vectors, interval=(switch, 1.0) if composition.then else (0.0, 1.0))]
    if composition.then:
        conditions.append(WeightedCondition(everywhere("then", composition.then), interval=(0.0, switch)))
    conditions += [WeightedCondition(everywhere("also", text), weight) for text, weight in composition.also]
    return conditions, everywhere("negative", composition.negative) if composition.negative else None


def towards_shares(n: int) -> list[float]:
    """Return the interpolation weights of ``n`` images, from the prompt (0) to ``Composition.towards`` (1)."""
    return [i / (n - 1) for i in range(n)] if n > 1 else [0.5]


def slerp(a: Tensor, b: Tensor, share: Tensor | float) -> Tensor:
    """Interpolate spherically between unit vectors ``a`` (share 0) and ``b`` (share 1), all (n, d).

    Unlike linear interpolation, the results are unit vectors (Shoemake, "Animating rotation with quaternion curves",
    1985).
    """
    angle = torch.arccos((a * b).sum(1, keepdim=True).clamp(-1, 1))
    sine = angle.sin()
    near = sine < 1e-4
    safe = torch.where(near, torch.ones_like(sine), sine)
    mixed = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / safe
    return torch.nn.functional.normalize(torch.where(near, (1 - share) * a + share * b, mixed), dim=1)
