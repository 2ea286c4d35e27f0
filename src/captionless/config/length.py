"""How long a training lasts: so many images, so many minutes, or whichever comes first."""

from __future__ import annotations

import math
from typing import Any

from captionless.config import limits
from captionless.config.base import setting

DEFAULT_MINUTES = 60.0
"""Length of a training run if neither ``minutes`` nor ``images`` is given."""
MINUTES: Any = setting(
    None,
    "Total training time, including resumed runs.",
    shown="60 unless `images` is given",
    example=60,
    gt=0,
    le=limits.MAX_MINUTES,
)


def run_length(images: int | None, minutes: float | None) -> tuple[float, float]:
    """Return the largest number of images to see, and of seconds to train; one of them may be infinite."""
    if images is None and minutes is None:
        minutes = DEFAULT_MINUTES
    return images or math.inf, 60 * (minutes or math.inf)


def share_done(images: int | None, minutes: float | None, images_seen: int, seconds: float) -> float:
    """Return the share of a training that is done, in [0, 1]: by images or by time, whichever is further."""
    most_images, most_seconds = run_length(images, minutes)
    return min(1.0, max(images_seen / most_images, seconds / most_seconds))
