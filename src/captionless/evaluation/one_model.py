"""Evaluate one model: choose the images to generate and compare, then measure section by section."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from captionless.checkpoints.summary import model_summary
from captionless.config.evaluation import EvaluationConfig
from captionless.config.sampling import SamplingConfig
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.features import Features, load_features, own_features
from captionless.encoders.hub import BUNDLED
from captionless.errors import CaptionlessError
from captionless.evaluation.classifier import ReferenceClassifier, train_reference
from captionless.evaluation.context import EvaluationContext, PromptSet
from captionless.evaluation.data import EvaluationData, ImageSet
from captionless.evaluation.lineage import lineage_encoders, trained_with_flips
from captionless.evaluation.metrics import TooFewError
from captionless.evaluation.report.results import ModelEvaluation, Section
from captionless.evaluation.sections.fidelity import fidelity_section
from captionless.evaluation.sections.memorisation import memorisation_section
from captionless.evaluation.sections.text_alignment import text_alignment_section
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt, label_prompt
from captionless.generation.sample import stages_up_to
from captionless.progress import Progress

NO_CLASSES = (
    "no sub-folder with images has the name of one of the model's classes; provide a table of labels: `labels=FILE.csv`"
)


@dataclass(frozen=True)
class EvaluationPlan:
    """The settings shared by all models of an evaluation.

    Args:
        prompts: the prompts from a file; if empty, prompts are made from the labels.
        source: path of the prompt file, for the report.
        features: the name of the image model for comparing images; None uses each model's own encoder.
        sampling: the sampling settings.
        config: the evaluation settings.
        progress: receives messages and progress updates.
        classifiers: the classifiers trained so far, by image size, channels and horizontal flipping, or the reason why
            a classifier could not be trained.
    """

    prompts: tuple[Prompt, ...]
    source: str
    features: str | None
    sampling: SamplingConfig
    config: EvaluationConfig
    progress: Progress
    classifiers: dict[tuple[int, int, bool], ReferenceClassifier | str] = field(default_factory=dict)

    def sampling_for(self, generator: Generator) -> SamplingConfig:
        """Return the sampling settings for a model, with the size of its images; quick ones are not upsampled."""
        size = self.sampling.size or (generator.stages[0].config.size if self.config.quick else None)
        return self.sampling.replace(size=stages_up_to(generator.stages, size)[-1].config.size)


def evaluate_model(generator: Generator, data: EvaluationData, plan: EvaluationPlan) -> ModelEvaluation:
    """Generate the images of one model, and measure all sections.

    Raises:
        CaptionlessError: the model's encoder or the image model for comparing images cannot be loaded.
    """
    name, config = generator.model.name, plan.config
    plan.progress.say(
        f"{name}: {len(data.seen):,} of these images were trained on, {len(data.held_out):,} are held out."
    )
    data = limit_training_images(data, config)
    prompts = evaluation_prompts(generator, data, plan)
    context = EvaluationContext(
        generator,
        plan.sampling_for(generator),
        config,
        data,
        choose_real_images(data, config),
        prompts,
        _choose_features(generator, plan),
        _classifier(generator, data, prompts, plan),
        training_conditions(generator, data, config),
        plan.progress,
    )
    warnings = _warnings(context, plan)
    sections, memorises = [text_alignment_section(context)], None
    if config.passing is not None and not sections[0].classes:
        reasons = "; ".join(why for _, why in sections[0].missing)
        raise CaptionlessError(f"{name} cannot be graded with `passing`: {reasons}.", parameter="passing")
    if len(context.real):
        memorisation, memorises = memorisation_section(context)
        sections += [fidelity_section(context), memorisation]
        warnings += memorisation.notes if memorises is None else ()
    else:
        sections.append(Section("fidelity", missing=(("Fidelity, diversity and memorisation", NO_CLASSES),)))
    return ModelEvaluation(name, dict(model_summary(name)), tuple(sections), warnings, memorises)


def evaluation_prompts(generator: Generator, data: EvaluationData, plan: EvaluationPlan) -> PromptSet | None:
    """Return the prompts for a model: its classes, the plan's prompts or the folder's labels; None if all are empty."""
    config, prompts, source = plan.config, plan.prompts, plan.source
    if generator.classes:
        prompts, source = tuple(Prompt(name, name) for name in generator.classes), "the model's classes"
    elif not prompts:
        labels = sorted({label for label in data.everything.labels if label})
        prompts, source = tuple(label_prompt(label) for label in labels), "the folder's labels"
    if len(prompts) > config.max_prompts:
        source = f"{source} (a random choice of {len(prompts):,})"
        prompts = tuple(prompts[i] for i in sorted(_shuffled(len(prompts), config.seed)[: config.max_prompts]))
    if not prompts:
        return None
    return PromptSet(prompts, source, max(1, round(config.prompt_images / len(prompts))))


def _choose_features(generator: Generator, plan: EvaluationPlan) -> Features:
    """Return the feature extractor: the requested image model, the model's own encoder, or the bundled encoder."""
    taught, device = lineage_encoders(generator.model.name), str(generator.device)
    if plan.features is not None:
        return load_features(plan.features, device, own=taught, progress=plan.progress)
    if generator.classes:
        encoder = load_encoder(BUNDLED, device)
        return own_features(encoder, independent=encoder.digests.isdisjoint(taught))
    return own_features(generator.encoder)


def limit_training_images(data: EvaluationData, config: EvaluationConfig) -> EvaluationData:
    """Keep at most ``config.compared`` training images, preferring the model's own over those of ancestor models."""
    order = sorted(_shuffled(len(data.seen), config.seed), key=lambda i: data.seen.digests[i] not in data.trained)
    return replace(data, seen=data.seen.take(sorted(order[: config.compared])))


def choose_real_images(data: EvaluationData, config: EvaluationConfig) -> ImageSet:
    """Choose the real images whose conditions are used for generation.

    They are chosen from the held-out images, or from the training images if no images are held out. A
    class-conditional model uses only images of its classes.
    """
    images = data.held_out if len(data.held_out) else data.seen
    usable = [i for i, row in enumerate(images.conditions) if bool(row.any())]
    return images.take(sorted(usable[i] for i in _shuffled(len(usable), config.seed)[: config.samples]))


def training_conditions(generator: Generator, data: EvaluationData, config: EvaluationConfig) -> Tensor:
    """Return the conditions (m, d) of some training images of the model, or of its ancestor models if it has none.

    The result is empty for class-conditional models, whose conditions do not identify single images, and if there are
    no held-out images, because all images are then generated from training conditions anyway.
    """
    own = [i for i, digest in enumerate(data.seen.digests) if digest in data.trained]
    known = data.seen.conditions[own] if own else data.seen.conditions
    if generator.classes or not len(data.held_out):
        return known[:0]
    return known[_shuffled(len(known), config.seed)[: min(config.training_samples, config.samples)]]


def _classifier(
    generator: Generator, data: EvaluationData, prompts: PromptSet | None, plan: EvaluationPlan
) -> ReferenceClassifier | str:
    """Return the classifier for images of this size, shared by all models, or the reason why it cannot be trained."""
    if prompts is None or not any(prompt.label for prompt in prompts.prompts):
        return "the prompts have no labels"
    images, flip = data.everything, trained_with_flips(generator.model.config)
    key = (images.pixels.shape[2], images.pixels.shape[1], flip)
    if key not in plan.classifiers:
        try:
            trained = train_reference(
                images, plan.progress, seed=plan.config.seed, flip=flip, config=plan.config.classifier
            )
            plan.classifiers[key] = trained
        except TooFewError as error:
            if plan.config.passing is not None:
                raise
            plan.classifiers[key] = str(error)
        else:
            real, chance = trained.ceiling(torch.arange(len(trained.classes))), 1 / len(trained.classes)
            if plan.config.passing is not None and real and real.value <= chance:
                raise CaptionlessError(
                    f"the classifier learned nothing: its accuracy on {real.n} real images is {real.value:.0%}, no "
                    f"better than chance ({chance:.0%}), so it cannot be used for grading. Provide more images of each "
                    "class, or classes that are easier to tell apart."
                )
    return plan.classifiers[key]


def _warnings(context: EvaluationContext, plan: EvaluationPlan) -> tuple[str, ...]:
    data, found = context.data, []
    if context.generator.classes and plan.prompts:
        found.append("The model is class-conditional, so it was evaluated on its classes and not on the prompts.")
    if not len(data.held_out):
        found.append(
            "The model was trained on every image of this folder. Fidelity is overestimated, because it is measured on "
            "training images, and there are no held-out images as a reference. Train with `hold_out=0.1`, or use a "
            "folder that contains other images too."
        )
    if plan.config.quick:
        found.append(
            "This was a quick look: its samples are small, so the 95% ranges of shares are two to three times as wide "
            "as those of a whole evaluation, those of KID and CMMD up to ten times, and copies were searched for among "
            f"at most {plan.config.compared:,} training images. Leave `quick` out to compare models."
        )
    if data.unrecorded:
        found.append(
            f"The training images of {', '.join(data.unrecorded)} are not recorded (no pictures.csv found), so some "
            "images that count as held out may be training images."
        )
    return tuple(found)


def _shuffled(n: int, seed: int) -> list[int]:
    """Return a random permutation of 0 to n - 1."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
