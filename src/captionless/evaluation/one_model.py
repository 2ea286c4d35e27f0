"""One model's examination: what is painted for it, and the sections made of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from captionless.checkpoints.model import Model
from captionless.config.sampling import SamplingConfig
from captionless.encoders.dual_encoder import BUNDLED, load_encoder
from captionless.encoders.features import Features, load_features, own_features
from captionless.evaluation.classifier import ReferenceClassifier, mirrors_images, train_reference
from captionless.evaluation.data import EvaluationData, Images, Listener, teachers
from captionless.evaluation.metrics import TooFewError
from captionless.evaluation.report.results import ModelEvaluation, Section
from captionless.evaluation.samples import EvaluationSampler
from captionless.evaluation.sections.fidelity import ALTERATIONS, likeness_section
from captionless.evaluation.sections.memorisation import Memory, Suspects, memory_section
from captionless.evaluation.sections.sweep import sweep_cost, sweep_section
from captionless.evaluation.sections.text_alignment import Asked, words_section
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt, photo_of
from captionless.models.blocks import scaled
from captionless.models.unet import parameter_count

OWN_VECTORS = 100
"""Pictures painted from training pictures' own vectors: where copies show first."""
OWN_SEEDS = 2_000_000
COMPARED = 20_000
"""Training pictures that paintings are compared with, at most."""
MOST_LABELS = 100
MOST_PROMPTS = 300
NO_WORDS = "there are no --prompts, and no sub-folders whose names could be asked for"
NO_CLASSES = (
    "no picture of the folder lies in a sub-folder named like one of the model's classes; a table may say which is "
    "which: --labels FILE.csv"
)
IMAGE_PARTS = (("likeness", "Likeness to the folder"), ("memorisation", "Memorisation"), ("sweeps", "Sweeps"))


@dataclass(frozen=True)
class Plan:
    """How models are measured.

    Args:
        prompts: what to ask for; none takes the names of labels.
        source: where those come from, for people.
        samples: pictures painted from held-out pictures' vectors, at most.
        features: the name of what pictures are compared by; None for the model's own encoder.
        sampling: how pictures are drawn.
        seed: of noise and choices.
        listener: whom to tell.
        judges: classifiers of pixels that were trained already, by size, channels and
            whether it may mirror pictures; or why there is none.
    """

    prompts: tuple[Prompt, ...]
    source: str
    samples: int
    features: str | None
    sampling: SamplingConfig
    seed: int
    listener: Listener
    judges: dict[tuple[int, int, bool], ReferenceClassifier | str] = field(default_factory=dict)


def examine(generator: Generator, evidence: EvaluationData, plan: Plan) -> ModelEvaluation:
    """Paint and measure everything about one model.

    Raises:
        CaptionlessError: its encoder, or what pictures are to be compared by, cannot be loaded.
    """
    plan.listener.say(f"{generator.model.name}: {_counts(evidence)}.")
    evidence, chosen = compared(evidence, plan)
    (real, usable), asked = reference(generator, evidence, plan), what_to_ask(generator, evidence, plan)
    own = own_conditions(generator, evidence, plan)
    studio = _studio(generator, evidence, asked, real, len(own), plan)
    real_features = studio.look(real.pixels, "Looking at real pictures") if len(real) else torch.empty(0, 1)

    words, fresh = Section("words", missing=(("Faithfulness to words", NO_WORDS),)), []
    if asked:
        judge = _judge(studio, evidence, asked, plan)
        words, *prompted = words_section(studio, asked, judge, real, real_features)
        fresh.append(prompted)
    if not len(real):
        rest = tuple(Section(key, missing=((name, NO_CLASSES),)) for key, name in IMAGE_PARTS)
        return ModelEvaluation(
            generator.model.name, facts(generator), (words, *rest), _warnings(generator, evidence, plan)
        )
    sampled = studio.paint(real.conditions)
    likeness, features = likeness_section(studio, real, real_features, sampled, usable)
    aside, known = None, [sampled, features]
    if len(evidence.held_out):
        aside, known = Suspects("real", "", real.pixels, real_features), _own(studio, own)
        fresh.append([sampled, features])
    memory, caught = memory_section(_memory(studio, evidence, chosen, plan), _suspects(fresh, known), aside)
    sections = (words, likeness, memory, sweep_section(studio, real, real_features))
    warnings = _warnings(generator, evidence, plan) + (memory.notes if caught is None else ())
    return ModelEvaluation(generator.model.name, facts(generator), sections, warnings, caught)


def _studio(
    generator: Generator, evidence: EvaluationData, asked: Asked | None, real: Images, own: int, plan: Plan
) -> EvaluationSampler:
    """Return where the model paints, told how much it will be."""
    pictures = len(real) + own + (asked.each * len(asked.prompts) if asked else 0)
    swept, steps = sweep_cost(plan.sampling, len(real))
    enlarging = generator.steps(plan.sampling) - plan.sampling.steps
    steps += plan.sampling.steps * pictures + enlarging * (pictures + swept)
    features, flip = pick_features(generator, plan), mirrors_images(generator.model.config)
    # Looked at are all paintings, the real pictures as they are and altered, and those trained on.
    looks = pictures + swept + (1 + ALTERATIONS) * len(real) + (1 + flip) * len(evidence.seen)
    return EvaluationSampler(
        generator, features, plan.sampling, plan.seed, pictures + swept, steps, plan.listener, looks
    )


def compared(evidence: EvaluationData, plan: Plan) -> tuple[EvaluationData, tuple[str, ...]]:
    """Keep so many of the training pictures as paintings can be compared with, and say if that is not all.

    The model's own come before those of models that it was begun from.
    """
    count = len(evidence.seen)
    if count <= COMPARED:
        return evidence, ()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed)).tolist()
    order.sort(key=lambda i: evidence.seen.digests[i] not in evidence.own)
    few = replace(evidence, seen=evidence.seen.take(sorted(order[:COMPARED])))
    return few, (
        f"Of the {count:,} training pictures in the folder, {COMPARED:,} were compared with, a random choice.",
    )


def _suspects(fresh: Sequence[Sequence[Tensor]], known: Sequence[Tensor]) -> list[Suspects]:
    """Return the paintings that may be copies, (pixels, features): asked for anew, and for what was trained on."""
    found = []
    if fresh:
        pixels, features = (torch.cat(parts) for parts in zip(*fresh, strict=True))
        found.append(Suspects("memorised", "asked for something new", pixels, features))
    if len(known[0]):
        found.append(Suspects("memorised_own", "asked for what it was trained on", *known))
    return found


def reference(generator: Generator, evidence: EvaluationData, plan: Plan) -> tuple[Images, int]:
    """Return the real pictures to paint the like of: held out ones, a random choice where they are many; those
    trained on where there are no others. Of a model of classes, only pictures of its classes. Then, how many there
    were to choose from.
    """
    pictures = evidence.held_out if len(evidence.held_out) else evidence.seen
    usable = [i for i, row in enumerate(pictures.conditions) if bool(row.any())]
    order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(plan.seed)).tolist()
    return pictures.take(sorted(usable[i] for i in order[: plan.samples])), len(usable)


def own_conditions(generator: Generator, evidence: EvaluationData, plan: Plan) -> Tensor:
    """Return some training pictures' own vectors, (m, d): the folder's, else those that the model carries, else those
    of pictures that models it was begun from were trained on.

    None of a model of classes, whose conditions are no picture's own; none where no picture is held out, since then
    all paintings are made from those anyway.
    """
    mine = [i for i, digest in enumerate(evidence.seen.digests) if digest in evidence.own]
    bank = generator.model.bank
    known = evidence.seen.take(mine).conditions if mine else bank if len(bank) else evidence.seen.conditions
    if generator.classes or not len(evidence.held_out):
        return known[:0]
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(plan.seed))
    return known[order[: min(OWN_VECTORS, plan.samples)]]


def what_to_ask(generator: Generator, evidence: EvaluationData, plan: Plan) -> Asked | None:
    """Return what to ask the model for: the plan's prompts, its classes, or the folder's labels; None without any."""
    if generator.classes:
        return Asked(tuple(Prompt(name, name) for name in generator.classes), "the model's classes")
    if len(plan.prompts) > MOST_PROMPTS:
        order = torch.randperm(len(plan.prompts), generator=torch.Generator().manual_seed(plan.seed))[:MOST_PROMPTS]
        few = tuple(plan.prompts[i] for i in sorted(order.tolist()))
        return Asked(few, f"{plan.source} (a random choice of its {len(plan.prompts):,})")
    if plan.prompts:
        return Asked(plan.prompts, plan.source)
    labels = sorted({label for part in (evidence.seen, evidence.held_out) for label in part.labels if label})
    if not labels:
        return None
    return Asked(tuple(photo_of(label) for label in labels[:MOST_LABELS]), "the folder's labels")


def pick_features(generator: Generator, plan: Plan) -> Features:
    """Return what pictures are compared by."""
    if plan.features is not None:
        taught = teachers(generator.model.name)
        return load_features(plan.features, str(generator.device), own=taught, announce=plan.listener.say)
    if generator.classes:
        encoder = load_encoder(BUNDLED, str(generator.device))
        return replace(own_features(encoder), independent=encoder.digest not in teachers(generator.model.name))
    return own_features(generator.encoder)


def facts(generator: Generator) -> tuple[tuple[str, str], ...]:
    """Return what a reader wants to know of a model first."""
    config = generator.model.config
    told = config.training
    encoder = f"encoder {config.encoder.name}" if config.encoder else f"{len(config.classes)} classes"
    small = generator.model.base
    return (
        ("Images", f"{config.size} x {config.size} pixels"),
        *([_enlarged(small)] if small else []),
        ("Denoiser", f"{parameter_count(generator.denoiser) / 1e6:.1f} million weights, {encoder}"),
        ("Trained on", f"{told.train_images:,} pictures, {told.images_seen:,} seen in all"),
    )


def _enlarged(small: Model) -> tuple[str, str]:
    """Return the same of the model whose pictures are enlarged."""
    size, told = small.config.size, small.config.training
    return "Enlarges", (
        f"pictures of {size} x {size} pixels; {parameter_count(small.denoiser) / 1e6:.1f} million weights, trained on "
        f"{told.train_images:,} pictures, {told.images_seen:,} seen in all"
    )


def _own(studio: EvaluationSampler, conditions: Tensor) -> list[Tensor]:
    """Paint training pictures' own conditions; return the paintings and their features."""
    if not len(conditions):
        return [torch.empty(0), torch.empty(0)]
    sampled = studio.paint(conditions, offset=OWN_SEEDS)
    return [sampled, studio.look(sampled, "Looking at paintings")]


def _memory(studio: EvaluationSampler, evidence: EvaluationData, chosen: Sequence[str], plan: Plan) -> Memory:
    own = plan.features is None and not studio.generator.classes
    bank = scaled(studio.generator.model.bank) if own else None
    flip = mirrors_images(studio.generator.model.config)
    memory = Memory(studio, evidence, bank, flip)
    memory.notes += chosen
    return memory


def _judge(studio: EvaluationSampler, evidence: EvaluationData, asked: Asked, plan: Plan) -> ReferenceClassifier | str:
    """Return the classifier for pictures of this make, trained once for all models; or why there is none."""
    if not any(prompt.label for prompt in asked.prompts):
        return "the prompts have no labels"
    pixels = evidence.everything.pixels
    flip = mirrors_images(studio.generator.model.config)
    key = (pixels.shape[2], pixels.shape[1], flip)
    if key not in plan.judges:
        studio.rehearse(evidence.everything.conditions)
        try:
            plan.judges[key] = train_reference(evidence.everything, plan.listener, seed=plan.seed, flip=flip)
        except TooFewError as error:
            plan.judges[key] = str(error)
    return plan.judges[key]


def _counts(evidence: EvaluationData) -> str:
    return f"{len(evidence.seen):,} of these pictures were trained on, {len(evidence.held_out):,} are held out"


def _warnings(generator: Generator, evidence: EvaluationData, plan: Plan) -> tuple[str, ...]:
    found = []
    if generator.classes and plan.prompts:
        found.append("The model paints classes, so it was asked for those and not for the prompts.")
    if not len(evidence.held_out):
        found.append(
            "The model was trained on every picture of this folder: likeness is to what it has seen, which flatters, "
            "and no held-out pictures say what is usual. Train with --hold-out 0.1, or name a folder that has other "
            "pictures too."
        )
    if evidence.unknown:
        found.append(
            f"What {', '.join(evidence.unknown)} was trained on is not recorded (no pictures.csv found): pictures that "
            "count as held out may have been seen."
        )
    return tuple(found)
