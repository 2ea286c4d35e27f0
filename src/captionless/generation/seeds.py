"""The seeds of requested images, and the check that a request is possible."""

from __future__ import annotations

from collections.abc import Sequence

from captionless.conditioning.composition import Composition
from captionless.errors import CaptionlessError

MAX_SEED = 2**32 - 1
"""PyTorch's CPU generator reads 32 bits of a seed: larger seeds would only repeat images."""


def check_request(prompts: Sequence[str], n: int, seed: int, composition: Composition | None = None) -> None:
    """Raise unless every prompt has a text (or a reference image) and all ``n`` seeds from ``seed`` on are in range."""
    wordless = composition is not None and composition.like is not None
    empty = next((i for i, prompt in enumerate(prompts, 1) if not prompt.strip()), None)
    if not prompts or (empty and not wordless):
        where = f" (number {empty} of {len(prompts)})" if len(prompts) > 1 else ""
        raise CaptionlessError(
            f'an empty prompt{where}. Describe the image, such as "a red rose".', parameter="prompts", value=prompts
        )
    if n < 1:
        raise CaptionlessError(f"`n` must be at least 1, not {n}.", parameter="n", value=n)
    if not 0 <= seed <= MAX_SEED - n + 1:
        raise CaptionlessError(
            f"`seed` must be a whole number from 0 to {MAX_SEED - n + 1}, not {seed}.", parameter="seed", value=seed
        )


def image_seeds(prompts: int, n: int, seed: int, composition: Composition | None = None) -> list[int]:
    """Return the seed of every image; all images of a blend from one prompt to another have the same."""
    blend = composition is not None and composition.towards is not None
    return [seed if blend else seed + i for _ in range(prompts) for i in range(n)]
