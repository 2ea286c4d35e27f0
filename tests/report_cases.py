"""An evaluation such as ``captionless evaluate`` finds, of two models, made up for tests."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from captionless.evaluation.metrics import Estimate, share
from captionless.evaluation.report.results import (
    Figure,
    ImageGrid,
    ModelEvaluation,
    Report,
    Section,
)

NASTY = "<script>alert('häßlich')</script> & \"müde\" {{ 7 * 7 }}"
MakeImage = Callable[[int, int], Image.Image]


def plain_image(width: int, height: int) -> Image.Image:
    """Return an image with something on it."""
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def report(image: MakeImage = plain_image) -> Report:
    """Return a report of two models: one of words, that generalises, and one of classes, that memorises."""
    return Report(
        "flowers/val",
        {
            "Images": "550 held-out photographs, 64 × 64 pixels; one painted of each, from its own vector",
            "Prompts": "20, of which 10 images each",
            "Seeds": "0 to 549",
            "Compared by": "facebook/dinov2-small (independent of the models' encoder)",
        },
        (_generalises(image), _memorises(image)),
    )


def accuracy(hits: int) -> Figure:
    return Figure(
        "accuracy",
        "Recognised by a classifier",
        share(hits, 200),
        share(483, 550),
        percent=True,
        explanation="How often a classifier that was trained on photographs alone, on pixels, sees in an image what "
        "it was asked for. Real photographs are the most it can reach.",
    )


def kid(value: float, low: float, high: float) -> Figure:
    return Figure(
        "kid",
        "KID × 1000",
        Estimate(value, low, high, 550),
        Estimate(0.03, -0.42, 0.51, 550),
        better="lower",
        digits=2,
        explanation="How far the generated images as a whole are from photographs (kernel inception distance); 0 is "
        "no difference at all.",
        marks=(
            ("photographs with noise of 4/255", Estimate(1.31, 0.8, 1.9, 550)),
            ("photographs reduced to half and enlarged", Estimate(9.74, 8.6, 10.9, 550)),
        ),
    )


def _generalises(image: MakeImage) -> ModelEvaluation:
    words = Section(
        "text_alignment",
        (
            accuracy(124),
            Figure(
                "cosine",
                "Closer to its own words",
                Estimate(0.041, 0.032, 0.049, 200),
                better="higher",
                digits=3,
                explanation="Cosine of an image with its own prompt, less that with the other prompts.",
            ),
        ),
        grids=(ImageGrid("Ten of each prompt", image(520, 360), "Not chosen: seeds 0 to 9."),),
        notes=("The cosine is that of the models' own encoder, which they were trained to please.",),
    )
    fidelity = Section(
        "fidelity",
        (
            kid(14.2, 12.1, 16.4),
            Figure("precision", "Precision", share(430, 550), share(497, 550), percent=True),
            Figure("recall", "Recall", share(212, 550), share(488, 550), percent=True),
            Figure("density", "Density", Estimate(0.88, 0.81, 0.96, 550), Estimate(1.004, 0.97, 1.04, 550), digits=2),
        ),
        missing=(("fid", "it needs more than 768 photographs, for vectors of 384 numbers; there are 550."),),
        notes=("Ranges are those of 100 random halves.",),
    )
    copies = Figure(
        "memorised",
        "Copies of training images",
        share(0, 550),
        share(2, 550),
        "lower",
        percent=True,
        explanation="Images much closer to one training image than to all others (less than a third of the "
        "distance). Held-out photographs show how often that is chance.",
    )
    memorisation = Section(
        "memorisation",
        (copies,),
        grids=(ImageGrid("The ten closest", image(430, 300), "Left: generated. Right: nearest training image."),),
    )
    return ModelEvaluation(
        "flowers.model",
        {"Images": "64 × 64 pixels, colour", "Weights": "12.4 million", "Trained on": "2,200 photographs"},
        (words, fidelity, memorisation),
        memorises=False,
    )


def _memorises(image: MakeImage) -> ModelEvaluation:
    words = Section("text_alignment", (accuracy(171),), grids=(ImageGrid("Ten of each prompt", image(520, 360)),))
    fidelity = Section(
        "fidelity",
        (kid(5.1, 3.9, 6.4),),
        missing=(
            ("fid", "it needs more than 768 photographs, for vectors of 384 numbers; there are 550."),
            ("precision", "it needs 50 photographs; there are 44."),
        ),
    )
    copies = Figure("memorised", "Copies of training images", share(389, 550), share(2, 550), "lower", percent=True)
    sheet = ImageGrid("The ten closest", image(430, 300), NASTY)
    return ModelEvaluation(
        NASTY,
        {"Weights": "12.4 million", "Trained on": "100 photographs"},
        (words, fidelity, Section("memorisation", (copies,), grids=(sheet,))),
        (f"24 of the held-out photographs were among its training images: {NASTY}",),
        memorises=True,
    )
