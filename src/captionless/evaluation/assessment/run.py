"""Assess a model: does a classifier, trained on real images alone, recognise what the model generates?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.checkpoints.config import BUNDLED, load_config
from captionless.config.evaluation import ClassifierConfig
from captionless.config.keyword_types import SamplingOptions
from captionless.config.keywords import keywords
from captionless.config.sampling import SamplingConfig
from captionless.device import resolve_precision
from captionless.errors import CaptionlessError
from captionless.evaluation.assessment.grade import CEILING, Grade, Passing, verdicts, write
from captionless.evaluation.assessment.prompts import ClassPrompts, class_prompts, spread
from captionless.evaluation.classifier.reference import (
    ReferenceClassifier,
    learnable_labels,
    mirrors_images,
    train_reference,
)
from captionless.evaluation.data import ImageSet, load_labelled_images
from captionless.evaluation.metrics.estimate import Estimate, TooFewError
from captionless.evaluation.samples import EvaluationSampler
from captionless.files import make_folder
from captionless.generation.generator import Generator, load
from captionless.generation.prompts import read_prompts
from captionless.generation.seeds import MAX_SEED
from captionless.progress import Progress, choose_progress


@keywords(SamplingConfig)
def assess(
    model: str | Path = BUNDLED,
    *,
    data: str | Path | None = None,
    prompts: str | Path | None = None,
    n: int = 100,
    passing: Passing = 0.95,
    labels: str | Path | None = None,
    encoder: str | None = None,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    classifier: ReferenceClassifier | None = None,
    config: ClassifierConfig | None = None,
    out: str | Path | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[SamplingOptions],
) -> Grade:
    """Grade a model: a classifier of pixels, trained on real images of each class, must recognise generated ones.

    The classifier is trained on four fifths of the folder's different images. Its accuracy on the others, class by
    class, is the ceiling of what it can recognise.

    Args:
        model: a model folder, or ``bundled``.
        data: a folder of real images, each class in a sub-folder; not needed with ``classifier``.
        prompts: a file of prompts with labels, see ``captionless.generation.prompts.read_prompts``; the images of a
            class are spread over its prompts. Without it, a class-conditional model generates those of its classes
            that the folder has too, any other model "a photo of a LABEL".
        n: images per class.
        passing: share of each class's images that must be recognised, above 0 and at most 1; or ``ceiling``: of each
            class the share of its held-out real images that is recognised.
        labels: a CSV with the columns ``file`` and ``label``, instead of the sub-folders.
        encoder: where the model's own encoder is now, if it has moved.
        sampling: how images are generated.
        seed: seed of the noise, and of the classifier.
        classifier: one that was trained before, such as ``Grade.classifier``; the folder is then not read.
        config: training settings of the classifier.
        out: a folder for ``grade.json``.
        progress: True draws a progress bar, False does not; by default terminals and notebooks do. Or an object that
            receives remarks and progress.
        **settings: sampling settings, each a keyword of its own.

    Returns:
        The grade; ``passed`` is its verdict.

    Raises:
        CaptionlessError: bad input, a folder that no classifier can be trained on, or no class to grade.
    """
    _check(n, passing, seed, out)
    progress, sampling = choose_progress(progress), (sampling or SamplingConfig()).replace(**settings)
    given = None if prompts is None else read_prompts(Path(prompts))
    generator = load(model, None if load_config(model).classes else encoder)
    subject = classifier or _labelled_images(data, generator, labels, progress)
    asked, left_out = class_prompts(generator, *_labels(subject), given)
    texts = [text for own in asked.values() for text in spread(own, n)]
    # Before the classifier is trained, so that a prompt that the model cannot take does not cost its time.
    conditions = _conditions(generator, texts, sampling)
    if isinstance(subject, ImageSet):
        flip = mirrors_images(generator.model.config)
        subject = train_reference(subject, progress, seed=seed, flip=flip, config=config)
    notes = check_classifier(subject, asked, passing)
    sampler = EvaluationSampler(generator, sampling, seed, progress)
    predicted = subject.classify(sampler.sample(conditions)).reshape(len(asked), n)
    confusion = F.one_hot(predicted, len(subject.classes)).sum(1)
    grade = Grade(
        str(model),
        str(data or ""),
        _settings(sampler),
        passing,
        subject.classes,
        verdicts(subject, asked, confusion, passing),
        tuple(tuple(row) for row in confusion.tolist()),
        _accuracy_on_real(subject, asked),
        left_out,
        notes,
        subject,
    )
    if out is not None:
        write(Path(out), grade)
    return grade


def _check(n: int, passing: Passing, seed: int, out: str | Path | None) -> None:
    """Raise on values that no grade can be given with, before any work, and create the folder ``out``."""
    if n < 1:
        raise CaptionlessError(f"`n` must be at least 1 image per class, not {n}. Try `n=100`.")
    if passing != CEILING and not (isinstance(passing, float | int) and 0 < passing <= 1):
        raise CaptionlessError(
            f"`passing` must be a share above 0 and at most 1, or {CEILING}, not {passing}. Try `passing=0.95`."
        )
    if not 0 <= seed <= MAX_SEED:
        raise CaptionlessError(f"`seed` must be a whole number from 0 to {MAX_SEED}, not {seed}.")
    if out is not None:
        make_folder(Path(out))


def check_classifier(classifier: ReferenceClassifier, asked: ClassPrompts, passing: Passing) -> tuple[str, ...]:
    """Return caveats about the classifier's accuracy on the graded classes.

    Raises:
        CaptionlessError: its accuracy on real images is no better than chance; or it was not tested on real images, and
            the bar is to be its accuracy.
    """
    chance, real = 1 / len(classifier.classes), _accuracy_on_real(classifier, asked)
    if real is None:
        if passing == CEILING:
            raise CaptionlessError(
                "the classifier was not tested on real images, so there is no ceiling. Give `passing` a share."
            )
        return ("The classifier was not tested on real images.",)
    if real.value <= chance:
        raise CaptionlessError(
            f"the classifier learned nothing: its accuracy on {real.n} real images is {real.value:.0%}, no better than "
            f"chance ({chance:.0%}), so it cannot be used for grading. Provide more images of each class, or classes "
            "that are easier to tell apart."
        )
    notes = []
    if real.low <= chance:
        notes.append(
            f"The classifier recognises {real.value:.0%} of {real.n} held-out real images, too few to be sure that it "
            f"is better than chance ({chance:.0%})."
        )
    tested = zip(classifier.classes, classifier.by_class, strict=True)
    hard = [label for label, one in tested if one and label in asked and passing != CEILING and one.value < passing]
    if hard:
        notes.append(
            f"Real images would miss this bar too, with this classifier: {', '.join(hard)}. `passing={CEILING}` "
            "requires of each class no more than real images reach."
        )
    return tuple(notes)


def _accuracy_on_real(classifier: ReferenceClassifier, asked: ClassPrompts) -> Estimate | None:
    """Return the accuracy on held-out real images of the graded classes, each counting alike."""
    return classifier.ceiling(torch.tensor([classifier.classes.index(label) for label in asked]))


def _labelled_images(
    data: str | Path | None, generator: Generator, labels: str | Path | None, progress: Progress
) -> ImageSet:
    """Return the labelled images of the folder, the first of each set with the same pixels.

    Files of other bytes may show the same pixels; the classifier must not be trained on one and tested on another.
    """
    if data is None:
        raise CaptionlessError("`data` is missing. Name a folder of real images, each class in a sub-folder.")
    images = load_labelled_images(data, generator, progress, labels)
    labelled = [index for index, label in enumerate(images.labels) if label]
    first: dict[bytes, int] = {}
    for index in labelled:
        first.setdefault(hashlib.sha256(images.pixels[index].numpy().tobytes()).digest(), index)
    if copies := len(labelled) - len(first):
        progress.say(f"  {copies:,} images have the same pixels as another file and are not counted again.")
    return images.take(list(first.values()))


def _labels(subject: ReferenceClassifier | ImageSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels that the classifier has, or is going to have, and those of too few images."""
    if isinstance(subject, ReferenceClassifier):
        return subject.classes, subject.left_out
    try:
        return learnable_labels(subject)
    except TooFewError as error:
        raise CaptionlessError(
            f"{error}. Put the images of each class into a sub-folder of their own, or name a table: `labels=FILE.csv`."
        ) from error


def _conditions(generator: Generator, texts: Sequence[str], sampling: SamplingConfig) -> Tensor:
    """Return the condition of each text, (n, d); each different text is encoded once."""
    indices = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    return generator.conditions(list(indices), sampling)[[indices[text] for text in texts]]


def _settings(sampler: EvaluationSampler) -> str:
    sampling = sampler.sampling
    precision = resolve_precision(sampling.precision, sampler.generator.device)
    steps = f"{sampling.steps} steps of {sampling.sampler}"
    return f"guidance {sampling.guidance:g}, {steps}, {precision}, seed {sampler.seed}"
