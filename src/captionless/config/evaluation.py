"""Sizes of an evaluation: how much is generated, what it is compared with, and which settings are swept."""

from __future__ import annotations

from dataclasses import dataclass

from captionless.errors import CaptionlessError

MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How much an evaluation generates and compares.

    Args:
        samples: images generated from held-out images' conditions, at most; fewer take less time.
        seed: of noise and of random choices.
        prompt_images: images generated from prompts, about, in all.
        images_per_prompt: images generated from one prompt, at most.
        max_prompts: prompts used of a file, a random choice of more.
        max_labels: labels used as prompts where no prompts are given.
        training_samples: images generated from training images' own conditions, where copies show first.
        compared: training images that generated images are compared with, a random choice of more.
        common_held_out: held-out images that several models must share to be measured on those alone.
        sweep_images: images generated in each setting of a sweep.
        sweep_guidance: guidance scales of the sweep; the one that was asked for joins them.
        sweep_steps: numbers of steps of the sweep; the one that was asked for joins them.
        noise_levels: standard deviations of the noise added to real images for the scale of KID, in levels of 255.
    """

    samples: int = 500
    seed: int = 0
    prompt_images: int = 300
    images_per_prompt: int = 60
    max_prompts: int = 300
    max_labels: int = 100
    training_samples: int = 100
    compared: int = 20_000
    common_held_out: int = 50
    sweep_images: int = 48
    sweep_guidance: tuple[float, ...] = (0.0, 1.0, 3.0, 5.0, 8.0)
    sweep_steps: tuple[int, ...] = (4, 8, 15, 30)
    noise_levels: tuple[int, ...] = (4, 16)

    def __post_init__(self) -> None:
        """Refuse values that no evaluation can use."""
        if self.samples < 1:
            raise CaptionlessError(f"`samples` must be at least 1, not {self.samples}. Try `samples=500`.")
        if not 0 <= self.seed <= MAX_SEED:
            raise CaptionlessError(f"`seed` must be a whole number from 0 to {MAX_SEED}, not {self.seed}.")
