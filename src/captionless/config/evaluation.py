"""How much an evaluation samples, compares and draws again: the one source of these defaults."""

from __future__ import annotations

from captionless.config.base import Config, setting

MAX_SEED = 2**32 - 1
"""PyTorch reads 32 bits of a seed."""

SIZES = "Sizes of the evaluation"


class ClassifierConfig(Config):
    """How the reference classifier is trained on real images."""

    size: int = setting(48, "Side in pixels that images are resized to.", ge=1)
    small_size: int = setting(16, "The same for images of up to this side, for which it suffices.", ge=1)
    passes: int = setting(24, "Times each image is seen.", ge=1)
    images_seen: tuple[int, int] = setting(
        (20_000, 120_000), "Fewest and most images seen, however few or many there are."
    )
    batch: int = setting(64, "Images per step.", ge=1)
    growth: tuple[tuple[float, float], ...] = setting(
        ((0.5, 1 / 2), (0.8, 2 / 3), (1.0, 1.0)),
        "Until this share of the training, train at this share of the side (progressive resizing, arXiv:2104.00298).",
    )


class EvaluationConfig(Config):
    """How much is sampled and compared in an evaluation: larger is surer and slower."""

    samples: int = setting(
        500, "Images sampled from held-out images' vectors, at most; fewer are faster and less certain.", ge=1
    )
    seed: int = setting(0, "Seed of all noise and random choices.", ge=0, le=MAX_SEED)
    training_samples: int = setting(
        100, "Images sampled from training images' own vectors, where copies show first.", panel=SIZES, ge=1
    )
    compared: int = setting(
        20_000, "Training images that samples are compared with to find copies, at most.", panel=SIZES, ge=1
    )
    common_held_out: int = setting(
        50, "Held-out images that several models must share to be measured on those alone.", panel=SIZES, ge=1
    )
    prompt_images: int = setting(300, "Images sampled from prompts, about, in all.", panel=SIZES, ge=1)
    images_per_prompt: int = setting(60, "Images sampled per prompt, at most.", panel=SIZES, ge=1)
    max_prompts: int = setting(300, "Prompts that are used, at most; of more, a random choice.", panel=SIZES, ge=1)
    max_labels: int = setting(100, "Labels of the folder that are made into prompts, at most.", panel=SIZES, ge=1)
    sweep_images: int = setting(48, "Images sampled per value of a sweep.", panel=SIZES, ge=1)
    sweep_guidance: tuple[float, ...] = setting(
        (0.0, 1.0, 3.0, 5.0, 8.0), "Guidance scales of the sweep, beside the one of the evaluation.", panel=SIZES
    )
    sweep_steps: tuple[int, ...] = setting(
        (4, 8, 15, 30), "Denoising steps of the sweep, beside those of the evaluation.", panel=SIZES
    )
    noise_levels: tuple[int, ...] = setting(
        (4, 16),
        "Standard deviations, in levels of 255, of the noise added to real images for the reference points of KID.",
        panel=SIZES,
    )
    classifier: ClassifierConfig = setting(
        ClassifierConfig(), "How the reference classifier is trained; only from Python."
    )
