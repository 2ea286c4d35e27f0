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
NO_PROMPTS = "there are no `prompts`, and no sub-folders whose names could serve as prompts"
FEW = 10
"""Prompts below which the spread over prompts is no estimate of a range."""
GRID_ROWS, GRID_COLUMNS = 20, 8


def text_alignment_section(context: EvaluationContext) -> Section:
    """Generate images from every prompt, and measure how well they follow it."""
    prompts, samples = context.prompts, context.prompted
    if prompts is None or samples is None:
        return Section(KEY, missing=(("Text alignment", NO_PROMPTS),))
    encoded, recognised = _by_encoder(context, prompts, samples), _by_classifier(context, prompts, samples)
    count, bridge = len(prompts.prompts), context.sampling.bridge
    notes = [f"{count:,} prompts from {prompts.source}, {prompts.images} images of each, bridge {bridge}."]
    if count < FEW:
        notes.append(f"The ranges of cosine and own prompt are too narrow for fewer than {FEW} prompts.")
    figures, missing = encoded.figures + recognised.figures, encoded.missing + recognised.missing
    return Section(KEY, figures, missing, (_grid(prompts, samples.pixels),), tuple(notes), recognised.classes)


def _by_encoder(context: EvaluationContext, prompts: PromptSet, samples: ImagesWithFeatures) -> Section:
    """Compare images with prompts in the space of a dual encoder: the features' own, or else the model's."""
    features, name = context.features, "Cosine with the prompt, R-precision"
    if context.generator.classes:
        return Section(KEY, missing=((name, "the model is class-conditional and takes no prompts"),))
    # Features of images alone have no texts; the model's own encoder has.
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
    reference = " For comparison: real images with the prompt of their own label." if gain_real else ""
    own = ", the model's own encoder: not independent" if encoder or not features.independent else ""
    by = f"{reference} By {(encoder or features).name}{own}."
    gain_figure = Figure(
        "cosine_gain",
        "Cosine with the prompt, above shuffled",
        gain,
        gain_real,
        digits=3,
        explanation="Mean cosine of each image with its own prompt, minus that with the other prompts; 0 is no better "
        f"than chance.{by}",
    )
    precision_figure = Figure(
        "r_precision",
        f"Picks its own prompt out of {choices}",
        precision,
        precision_real,
        percent=True,
        explanation=f"How often an image's own prompt is the closest to it among {choices}; {100 / choices:.1f}% by "
        f"chance.{by}",
    )
    return Section(KEY, (gain_figure, precision_figure))


def _measures(
    encoder: Encoder | None, samples: ImagesWithFeatures, texts: Tensor, owner: Tensor
) -> tuple[Estimate, Estimate]:
    """Return the gain of cosine and the R-precision of images whose prompts are ``owner`` (n,) of ``texts`` (m, d)."""
    images = F.normalize(encoder.encode_images(to_images(samples.pixels)) if encoder else samples.features, dim=1)
    return cosine_gain(images, texts, owner), r_precision(images, texts, owner)


def _of_real_images(
    context: EvaluationContext, prompts: PromptSet, encoder: Encoder | None, texts: Tensor
) -> tuple[Estimate | None, Estimate | None]:
    """Measure real images under the prompt of their own label.

    Return (None, None) if a prompt says more than a label: how well a real image should fit it is not known.
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
    """Let the reference classifier name the images of the prompts with labels."""
    classifier, name = context.classifier, "Recognised as asked"
    if isinstance(classifier, str):
        return Section(KEY, missing=((name, classifier),))
    indices = {label: i for i, label in enumerate(classifier.classes)}
    labels = [prompt.label for prompt in prompts.prompts]
    strange = sorted({label for label in labels if label and label not in indices})
    usable = sum(label in indices for label in labels)
    why = "the folder has no such label, or too few images of it"
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
        "recognises what was asked for. For comparison: its accuracy on held-out real images of the same labels, "
        f"in the same proportions. The range is for other {'noise' if few else 'prompts of the kind'}.",
    )
    results = class_results(classifier, predicted, wanted, context.config.passing)
    return Section(KEY, (figure,), missing, classes=results)


def class_results(
    classifier: ReferenceClassifier, predicted: Tensor, wanted: Tensor, passing: Passing | None
) -> tuple[ClassResult, ...]:
    """Return how often each class that was asked for is recognised, and whether that is enough.

    Args:
        classifier: the reference classifier.
        predicted: index of the class that each image was recognised as, (n,).
        wanted: index of the class that each image was to show, (n,).
        passing: the share required of every class; ``ceiling`` requires the share recognised of the class's real
            images (1 if it was not tested on any).
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
    """Draw the images of prompts, evenly chosen where there are many."""
    each, texts = prompts.images, [prompt.text for prompt in prompts.prompts]
    step = max(1, len(texts) // GRID_ROWS)
    shown = range(0, len(texts), step)[:GRID_ROWS]
    rows = [to_images(pixels[i * each : i * each + min(each, GRID_COLUMNS)]) for i in shown]
    note = "" if step == 1 else f"Every {step}th prompt of {len(texts):,}; not selected by hand."
    grid = sample_grid(rows, [texts[i] for i in shown], max(96, pixels.shape[-1]))
    return ImageGrid("Images of the prompts", grid, note)
