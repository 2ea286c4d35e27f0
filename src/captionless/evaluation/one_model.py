"""Evaluate one model: choose what is generated and compared, then measure section by section."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from captionless.checkpoints.config import ModelConfig
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.features import Features, load_features, own_features
from captionless.encoders.hub import BUNDLED
from captionless.evaluation.classifier import ReferenceClassifier, mirrors_images, train_reference
from captionless.evaluation.data import EvaluationData, ImageSet
from captionless.evaluation.lineage import encoder_digests
from captionless.evaluation.metrics import TooFewError
from captionless.evaluation.report.results import ModelEvaluation, Section
from captionless.evaluation.samples import EvaluationContext, EvaluationSampler, PromptSet
from captionless.evaluation.sections.fidelity import fidelity_section
from captionless.evaluation.sections.memorisation import memorisation_section
from captionless.evaluation.sections.sweep import sweep_section
from captionless.evaluation.sections.text_alignment import text_alignment_section
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt, photo_of
from captionless.models.blocks import scaled
from captionless.models.unet import Denoiser, parameter_count
from captionless.progress import Progress

NO_CLASSES = (
    "no image of the folder lies in a sub-folder named like one of the model's classes; give a table of labels: "
    "`labels=FILE.csv`"
)
IMAGE_SECTIONS = (("fidelity", "Fidelity and diversity"), ("memorisation", "Memorisation"), ("sweeps", "Sweeps"))


@dataclass(frozen=True)
class Plan:
    """The measurement settings shared by all models of an evaluation.

    Args:
        prompts: the prompts of a file; if empty, prompts are made from the names of labels.
        source: the file, for the report.
        features: the name of the image model that images are compared by; None for each model's own encoder.
        sampling: how images are generated.
        config: the sizes of the evaluation.
        progress: receives remarks and progress.
        classifiers: the classifiers already trained, by image size, channels and horizontal flipping; or the reason
            why one could not be trained.
    """

    prompts: tuple[Prompt, ...]
    source: str
    features: str | None
    sampling: SamplingConfig
    config: EvaluationConfig
    progress: Progress
    classifiers: dict[tuple[int, int, bool], ReferenceClassifier | str] = field(default_factory=dict)


def evaluate_model(generator: Generator, data: EvaluationData, plan: Plan) -> ModelEvaluation:
    """Generate and measure everything of one model.

    Raises:
        CaptionlessError: its encoder, or the model that images are compared by, cannot be loaded.
    """
    name, seen, held_out = generator.model.name, len(data.seen), len(data.held_out)
    plan.progress.say(f"{name}: {seen:,} of these images were trained on, {held_out:,} are held out.")
    context = _make_context(generator, data, plan)
    warnings = _warnings(context, plan)
    text_alignment = text_alignment_section(context)
    if not len(context.real):
        rest = tuple(Section(key, missing=((title, NO_CLASSES),)) for key, title in IMAGE_SECTIONS)
        return ModelEvaluation(name, facts(generator), (text_alignment, *rest), warnings)
    fidelity = fidelity_section(context)
    memorisation, memorises = memorisation_section(context)
    sections = (text_alignment, fidelity, memorisation, sweep_section(context))
    warnings += memorisation.notes if memorises is None else ()
    return ModelEvaluation(name, facts(generator), sections, warnings, memorises)


def _make_context(generator: Generator, data: EvaluationData, plan: Plan) -> EvaluationContext:
    """Choose what one model's images are generated from and compared with; train the classifier where it is needed."""
    config = plan.config
    prompts = choose_prompts(generator, data, plan)
    features = _choose_features(generator, plan)
    classifier = _classifier(generator, data, prompts, plan)
    data, remarks = limit_training_images(data, config)
    real, usable = choose_real_images(data, config)
    bank = generator.model.bank if plan.features is None and not generator.classes else None
    return EvaluationContext(
        EvaluationSampler(generator, plan.sampling, config.seed, plan.progress),
        config,
        data,
        real,
        usable,
        prompts,
        features,
        classifier,
        training_conditions(generator, data, config),
        None if bank is None else scaled(bank),
        mirrors_images(generator.model.config),
        remarks,
    )


def choose_prompts(generator: Generator, data: EvaluationData, plan: Plan) -> PromptSet | None:
    """Return the prompts for a model: its classes, those of the plan, or the folder's labels; None without any."""
    config, prompts, source = plan.config, plan.prompts, plan.source
    if generator.classes:
        prompts, source = tuple(Prompt(name, name) for name in generator.classes), "the model's classes"
    elif len(prompts) > config.max_prompts:
        source = f"{source} (a random choice of its {len(prompts):,})"
        prompts = tuple(prompts[i] for i in sorted(_shuffled(len(prompts), config.seed)[: config.max_prompts]))
    elif not prompts:
        labels = sorted({label for label in data.everything.labels if label})
        prompts, source = tuple(photo_of(label) for label in labels[: config.max_labels]), "the folder's labels"
    if not prompts:
        return None
    images = min(config.images_per_prompt, max(1, round(config.prompt_images / len(prompts))))
    return PromptSet(prompts, source, images)


def _choose_features(generator: Generator, plan: Plan) -> Features:
    """Return the image features to compare by: of the named model, the model's own encoder, or the bundled encoder."""
    taught, device = encoder_digests(generator.model.name), str(generator.device)
    if plan.features is not None:
        return load_features(plan.features, device, own=taught, progress=plan.progress)
    if generator.classes:
        encoder = load_encoder(BUNDLED, device)
        return replace(own_features(encoder), independent=encoder.digests.isdisjoint(taught))
    return own_features(generator.encoder)


def limit_training_images(data: EvaluationData, config: EvaluationConfig) -> tuple[EvaluationData, tuple[str, ...]]:
    """Keep at most ``config.compared`` training images for comparison; also return a remark if some are left out.

    The model's own training images take precedence over those of its ancestor models.
    """
    count = len(data.seen)
    if count <= config.compared:
        return data, ()
    order = _shuffled(count, config.seed)
    order.sort(key=lambda i: data.seen.digests[i] not in data.trained)
    few = replace(data, seen=data.seen.take(sorted(order[: config.compared])))
    return few, (
        f"Of the {count:,} training images in the folder, a random choice of {config.compared:,} was compared with.",
    )


def choose_real_images(data: EvaluationData, config: EvaluationConfig) -> tuple[ImageSet, int]:
    """Choose the real images whose conditions are used for generation; also return the number of candidates.

    The candidates are the held-out images, or the training images if nothing is held out. For a class-conditional
    model, only images of its classes qualify.
    """
    images = data.held_out if len(data.held_out) else data.seen
    usable = [i for i, row in enumerate(images.conditions) if bool(row.any())]
    chosen = sorted(usable[i] for i in _shuffled(len(usable), config.seed)[: config.samples])
    return images.take(chosen), len(usable)


def training_conditions(generator: Generator, data: EvaluationData, config: EvaluationConfig) -> Tensor:
    """Return conditions of some training images, (m, d).

    They come from the model's own training images in the folder; failing that, from its stored embedding bank; failing
    that, from images that its ancestor models were trained on. Empty (m = 0) for class-conditional models, whose
    conditions do not identify single images, and when there are no held-out images, because then all images are
    generated from training conditions anyway.
    """
    own = [i for i, digest in enumerate(data.seen.digests) if digest in data.trained]
    bank = generator.model.bank
    known = data.seen.take(own).conditions if own else bank if len(bank) else data.seen.conditions
    if generator.classes or not len(data.held_out):
        return known[:0]
    return known[_shuffled(len(known), config.seed)[: min(config.training_samples, config.samples)]]


def facts(generator: Generator) -> tuple[tuple[str, str], ...]:
    """Return the facts about a model that open its report, as pairs of name and text."""
    config, base = generator.model.config, generator.model.base
    encoder = f"encoder {config.encoder.name}" if config.encoder else f"{len(config.classes)} classes"
    found = [("Images", _size(config)), ("Denoiser", f"{_weights(generator.model.denoiser)}, {encoder}")]
    found.append(("Trained on", _trained_on(config)))
    if base:
        text = f"{_size(base.config)}, {_weights(base.denoiser)}, trained on {_trained_on(base.config)}"
        found.append(("Base model", text))
    return tuple(found)


def _size(config: ModelConfig) -> str:
    return f"{config.size} x {config.size} pixels"


def _weights(denoiser: Denoiser) -> str:
    return f"{parameter_count(denoiser) / 1e6:.1f} million weights"


def _trained_on(config: ModelConfig) -> str:
    return f"{config.training.train_images:,} images, {config.training.images_seen:,} seen in all"


def _classifier(
    generator: Generator, data: EvaluationData, prompts: PromptSet | None, plan: Plan
) -> ReferenceClassifier | str:
    """Return the classifier for images of this size, trained once for all models; or why it cannot be trained."""
    if prompts is None or not any(prompt.label for prompt in prompts.prompts):
        return "the prompts have no labels"
    images, flip = data.everything, mirrors_images(generator.model.config)
    key = (images.pixels.shape[2], images.pixels.shape[1], flip)
    if key not in plan.classifiers:
        try:
            plan.classifiers[key] = train_reference(
                images, plan.progress, seed=plan.config.seed, flip=flip, config=plan.config.classifier
            )
        except TooFewError as error:
            plan.classifiers[key] = str(error)
    return plan.classifiers[key]


def _warnings(context: EvaluationContext, plan: Plan) -> tuple[str, ...]:
    data, found = context.data, []
    if context.generator.classes and plan.prompts:
        found.append("The model is class-conditional, so it was evaluated on its classes and not on the prompts.")
    if not len(data.held_out):
        found.append(
            "The model was trained on every image of this folder: fidelity is to images it has seen, which is too "
            "high, and no held-out images say what is usual. Train with `hold_out=0.1`, or name a folder that has "
            "other images too."
        )
    if data.unrecorded:
        found.append(
            f"What {', '.join(data.unrecorded)} was trained on is not recorded (no pictures.csv found): images that "
            "count as held out may have been seen."
        )
    return tuple(found)


def _shuffled(n: int, seed: int) -> list[int]:
    """Return the numbers from 0 to n - 1 in a random order."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
