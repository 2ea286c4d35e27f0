"""Measure text alignment: do generated images show what their prompts ask for?"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.config.evaluation import Passing
from captionless.encoders.dual_encoder import Encoder
from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.context import EvaluationContext, ImagesWithFeatures, PromptSet
from captionless.evaluation.metrics import (
    Estimate,
    TooFewError,
    choice_count,
    cluster_mean,
    cosine_gain,
    distinct_texts,
    r_precision,
    share,
)
from captionless.evaluation.report.results import ClassResult, Figure, ImageGrid, Section
from captionless.generation.grids import sample_grid
from captionless.generation.prompts import label_prompt
from captionless.generation.sample import to_images

KEY = "text_alignment"
NO_PROMPTS = "there are no `prompts`, and no sub-folders whose names could be used as prompts"
FEW = 10
"""Number of prompts below which the spread over prompts underestimates the range."""
GRID_ROWS, GRID_COLUMNS = 20, 8


def text_alignment_section(context: EvaluationContext) -> Section:
    """Measure how well the images generated from the prompts follow their prompts."""
    prompts, samples = context.prompts, context.prompted
    if prompts is None or samples is None:
        return Section(KEY, missing=(("Text alignment", NO_PROMPTS),))
    encoded, recognised = _by_encoder(context, prompts, samples), _by_classifier(context, prompts, samples)
    count, bridge = len(prompts.prompts), context.sampling.bridge
    notes = [f"{count:,} prompts from {prompts.source}, {prompts.images} images per prompt, bridge {bridge}."]
    if count < FEW:
        notes.append(f"With fewer than {FEW} prompts, the ranges of cosine gain and R-precision are too narrow.")
    figures, missing = encoded.figures + recognised.figures, encoded.missing + recognised.missing
    return Section(KEY, figures, missing, (_grid(prompts, samples.pixels),), tuple(notes), recognised.classes)


def _by_encoder(context: EvaluationContext, prompts: PromptSet, samples: ImagesWithFeatures) -> Section:
    """Compare images with prompts using the features' dual encoder, or else the model's own encoder."""
    features, name = context.features, "Cosine with the prompt, R-precision"
    if context.generator.classes:
        return Section(KEY, missing=((name, "the model is class-conditional and does not accept prompts"),))
    # Features of an image-only model do not support texts; the model's own encoder does.
    encoder = context.generator.encoder if features.encode_texts is None else None
    encode_texts = encoder.encode_texts if encoder else features.encode_texts
    texts = F.normalize(encode_texts([prompt.text for prompt in prompts.prompts]), dim=1)  # type: ignore[misc]
    try:
        choices = choice_count(len(distinct_texts(texts)[0]))
        owner = torch.arange(len(texts)).repeat_interleave(prompts.images)
        gain, precision = _measures(encoder, samples, texts, owner)
    except TooFewError as error:
        return Section(KEY, missing=((name, str(error)),))
    gain_real, precision_real = _of_real_images(context, prompts, encoder, texts)
    reference = " The reference is real images with the prompt of their own label." if gain_real else ""
    own = ", the model's own encoder, so not independent" if encoder or not features.independent else ""
    by = f"{reference} Measured with {(encoder or features).name}{own}."
    gain_figure = Figure(
        "cosine_gain",
        "Cosine with the prompt, above shuffled",
        gain,
        gain_real,
        digits=3,
        explanation="Mean cosine similarity of images to their own prompt, minus the similarity to other prompts; 0 is "
        f"no better than chance.{by}",
    )
    precision_figure = Figure(
        "r_precision",
        f"Picks its own prompt out of {choices}",
        precision,
        precision_real,
        percent=True,
        explanation=f"How often an image is closer to its own prompt than to {choices - 1} other prompts; "
        f"{100 / choices:.1f}% by chance.{by}",
    )
    return Section(KEY, (gain_figure, precision_figure))


def _measures(
    encoder: Encoder | None, samples: ImagesWithFeatures, texts: Tensor, owner: Tensor
) -> tuple[Estimate, Estimate]:
    """Return the cosine-similarity gain and the R-precision of images; the prompt of image i is ``texts[owner[i]]``."""
    images = F.normalize(encoder.encode_images(to_images(samples.pixels)) if encoder else samples.features, dim=1)
    return cosine_gain(images, texts, owner), r_precision(images, texts, owner)


def _of_real_images(
    context: EvaluationContext, prompts: PromptSet, encoder: Encoder | None, texts: Tensor
) -> tuple[Estimate | None, Estimate | None]:
    """Measure real images with the prompt of their own label.

    Return (None, None) if a prompt contains more than a label, because real images need not match such prompts.
    """
    indices = {prompt.label: i for i, prompt in enumerate(prompts.prompts)}
    if any(prompt.label is None or prompt != label_prompt(prompt.label) for prompt in prompts.prompts):
        return None, None
    rows = [i for i, label in enumerate(context.real.labels) if label in indices]
    owner = [indices[context.real.labels[i]] for i in rows]
    if len(set(owner)) < 2:
        return None, None
    return _measures(encoder, context.real_samples.take(rows), texts, torch.tensor(owner))


def _by_classifier(context: EvaluationContext, prompts: PromptSet, samples: ImagesWithFeatures) -> Section:
    """Classify the images of prompts that have a label with the reference classifier."""
    classifier, name = context.classifier, "Recognised as asked"
    if isinstance(classifier, str):
        return Section(KEY, missing=((name, classifier),))
    indices = {label: i for i, label in enumerate(classifier.classes)}
    labels = [prompt.label for prompt in prompts.prompts]
    strange = sorted({label for label in labels if label and label not in indices})
    usable = sum(label in indices for label in labels)
    why = "the folder has no images with this label, or too few"
    missing = ((f"{name}, for {', '.join(strange[:5])}", why),) if strange else ()
    if not usable:
        return Section(KEY, missing=missing)
    owner = torch.arange(len(labels)).repeat_interleave(prompts.images)
    wanted = torch.tensor([indices.get(label or "", -1) for label in labels])[owner]
    rows = wanted >= 0
    wanted, owner, predicted = wanted[rows], owner[rows], classifier.classify(samples.pixels[rows])
    right, few = predicted == wanted, usable < FEW
    figure = Figure(
        "recognised",
        name,
        share(int(right.sum()), len(right)) if few else cluster_mean(right.double(), owner, 0),
        classifier.ceiling(wanted),
        percent=True,
        explanation="A small network, trained on the pixels of the folder's images and independent of the encoder, "
        "recognises the requested class. The reference is its accuracy on held-out real images with the same class "
        f"proportions. The range is over {'noise' if few else 'similar prompts'}.",
    )
    results = class_results(classifier, predicted, wanted, context.config.passing)
    return Section(KEY, (figure,), missing, classes=results)


def class_results(
    classifier: ReferenceClassifier, predicted: Tensor, wanted: Tensor, passing: Passing | None
) -> tuple[ClassResult, ...]:
    """Return how often each requested class is recognised, and whether it reaches the pass/fail threshold.

    Args:
        classifier: the reference classifier.
        predicted: index of the predicted class of each image, (n,).
        wanted: index of the requested class of each image, (n,).
        passing: pass/fail threshold for the recognised share of every class; ``ceiling`` uses the classifier's accuracy
            on real images of the class (1 if there are no such test images).
    """
    found = []
    for index in wanted.unique().tolist():  # type: ignore[no-untyped-call]
        label, real = classifier.classes[index], classifier.by_class[index]
        counts = Counter(classifier.classes[i] for i in predicted[wanted == index].tolist())
        n, hits = counts.total(), counts.pop(label, 0)
        bar = passing if passing != "ceiling" else real.value if real else 1.0
        found.append(ClassResult(label, share(hits, n), real, dict(counts.most_common()), bar))
    return tuple(found)


def _grid(prompts: PromptSet, pixels: Tensor) -> ImageGrid:
    """Draw the images of the prompts, or of evenly spaced prompts if there are many."""
    each, texts = prompts.images, [prompt.text for prompt in prompts.prompts]
    step = max(1, len(texts) // GRID_ROWS)
    shown = range(0, len(texts), step)[:GRID_ROWS]
    rows = [to_images(pixels[i * each : i * each + min(each, GRID_COLUMNS)]) for i in shown]
    note = "" if step == 1 else f"Every {step}th prompt of {len(texts):,}; not selected by hand."
    grid = sample_grid(rows, [texts[i] for i in shown], max(96, pixels.shape[-1]))
    return ImageGrid("Images of the prompts", grid, note)
