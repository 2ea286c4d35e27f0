"""Assess a model: does a classifier, trained on real images alone, recognise what the model generates?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch.nn import functional as F

from captionless.checkpoints.config import BUNDLED, load_config
from captionless.conditioning.classes import list_classes
from captionless.config.evaluation import ClassifierConfig
from captionless.config.keyword_types import SamplingOptions
from captionless.config.keywords import keywords
from captionless.config.sampling import SamplingConfig
from captionless.data.labels import normalise_label
from captionless.errors import CaptionlessError
from captionless.evaluation.assessment.grade import CEILING, Grade, Passing, verdicts, write_grade
from captionless.evaluation.classifier.reference import ReferenceClassifier, learnable_labels, train_reference
from captionless.evaluation.classifier.train import MINIMUM
from captionless.evaluation.data import ImageSet, read_labelled_images
from captionless.evaluation.lineage import mirrors_images
from captionless.evaluation.metrics.estimate import Estimate, TooFewError
from captionless.evaluation.samples import describe_sampling, sample_series, series_seeds
from captionless.files import make_folder
from captionless.generation.generator import Generator, load
from captionless.generation.prompts import Prompt, photo_of, read_prompts
from captionless.generation.seeds import check_request
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
    check_request(["each class"], n, seed)
    if passing != CEILING and not (isinstance(passing, float | int) and 0 < passing <= 1):
        raise CaptionlessError(
            f"`passing` must be a share above 0 and at most 1, or {CEILING}, not {passing}. Try `passing=0.95`."
        )
    if out is not None:
        make_folder(Path(out))
    progress, sampling = choose_progress(progress), (sampling or SamplingConfig()).replace(**settings)
    given = None if prompts is None else read_prompts(Path(prompts))
    generator = load(model, None if load_config(model).classes else encoder)
    judge = classifier or _labelled_images(data, generator, labels, progress)
    known, few = learnable_labels(judge) if isinstance(judge, ImageSet) else (judge.classes, judge.left_out)
    asked = class_prompts(generator, known, given)
    # Before the classifier is trained, so that a prompt that the model cannot take does not cost its time.
    texts = [text for own in asked.values() for text in own]
    rows = [texts.index(own[i * len(own) // n]) for own in asked.values() for i in range(n)]
    conditions = generator.conditions([texts[i] for i in rows], sampling, series_seeds(seed, len(rows)))
    if isinstance(judge, ImageSet):
        flip = mirrors_images(generator.model.config)
        judge = train_reference(judge, progress, seed=seed, flip=flip, config=config)
    real = accuracy_on_real(judge, list(asked), passing)
    predicted = judge.classify(sample_series(generator, conditions, sampling, seed, progress))
    confusion = F.one_hot(predicted.reshape(len(asked), n), len(judge.classes)).sum(1)
    grade = Grade(
        str(model),
        str(data or ""),
        f"{describe_sampling(generator, sampling)}, seed {seed}",
        passing,
        judge.classes,
        verdicts(judge, asked, confusion, passing),
        tuple(tuple(row) for row in confusion.tolist()),
        real,
        tuple(sorted({*known, *few, *generator.classes} - set(asked))),
        judge,
    )
    if out is not None:
        write_grade(Path(out), grade)
    return grade


def class_prompts(
    generator: Generator, known: Sequence[str], prompts: Sequence[Prompt] | None
) -> dict[str, tuple[str, ...]]:
    """Return the prompts of each class that is graded, in the classifier's order.

    Args:
        generator: the model.
        known: the classifier's labels.
        prompts: those of a file; None names the classes.

    Raises:
        CaptionlessError: a prompt without a label that the classifier knows; or there is nothing to grade.
    """
    for prompt in prompts or ():
        if normalise_label(prompt.label or "") not in known:
            raise CaptionlessError(
                f"`prompts`: {prompt.text!r} has {f'the label {prompt.label}' if prompt.label else 'no label'}, and it "
                f"must have one of {', '.join(known)}, of which the folder has {MINIMUM} different images or more. "
                'Write JSON lines such as {"prompt": "a red rose", "label": "rose"}.'
            )
    if prompts is not None:
        pairs = [(normalise_label(prompt.label or ""), prompt.text) for prompt in prompts]
    elif generator.classes:
        pairs = [(label, label) for label in generator.classes]
    else:
        pairs = [(label, photo_of(label).text) for label in known]
    found = {label: tuple(text for own, text in pairs if own == label) for label in known}
    if not any(found.values()):
        raise CaptionlessError(
            f"the model {generator.model.name} and the folder have no class in common. "
            f"{list_classes(generator.classes)} The folder's labels are: {', '.join(known[:10])}. Use a folder with "
            "the model's classes or, if the classes only have different names, map them with `prompts`: a file with "
            f'lines such as {{"prompt": "{generator.classes[0]}", "label": "{known[0]}"}}.'
        )
    return {label: texts for label, texts in found.items() if texts}


def accuracy_on_real(classifier: ReferenceClassifier, labels: Sequence[str], passing: Passing) -> Estimate | None:
    """Return the classifier's accuracy on held-out real images of the graded classes, each counting alike.

    Raises:
        CaptionlessError: it is no better than chance; or it is not known and the bar is to be that accuracy.
    """
    chance = 1 / len(classifier.classes)
    real = classifier.ceiling(torch.tensor([classifier.classes.index(label) for label in labels]))
    if real is None and passing == CEILING:
        raise CaptionlessError(
            "the classifier was not tested on real images, so there is no ceiling. Give `passing` a share."
        )
    if real and real.value <= chance:
        raise CaptionlessError(
            f"the classifier learned nothing: its accuracy on {real.n} real images is {real.value:.0%}, no better than "
            f"chance ({chance:.0%}), so it cannot be used for grading. Provide more images of each class, or classes "
            "that are easier to tell apart."
        )
    return real


def _labelled_images(
    data: str | Path | None, generator: Generator, labels: str | Path | None, progress: Progress
) -> ImageSet:
    """Return the labelled images of the folder, the first of each set with the same pixels.

    Files of other bytes may show the same pixels; the classifier must not be trained on one and tested on another.
    """
    if data is None:
        raise CaptionlessError("`data` is missing. Name a folder of real images, each class in a sub-folder.")
    images = read_labelled_images(data, generator, progress, labels)
    images = images.take([i for i, label in enumerate(images.labels) if label])
    if len(images):
        first = np.unique(images.pixels.flatten(1).numpy(), axis=0, return_index=True)[1]
        images = images.take(sorted(first.tolist()))
    try:
        learnable_labels(images)
    except TooFewError as error:
        raise CaptionlessError(
            f"{error}. Put the images of each class into a sub-folder of their own, or name a table: `labels=FILE.csv`."
        ) from error
    return images
