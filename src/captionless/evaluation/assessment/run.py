"""The verb ``assess``: does a classifier, trained on real pictures, recognise what a model paints?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from captionless.checkpoints.config import BUNDLED, load_config
from captionless.config.sampling import SamplingConfig
from captionless.device import resolve_precision
from captionless.errors import CaptionlessError
from captionless.evaluation.assessment.files import write
from captionless.evaluation.assessment.grade import CEILING, Grade, Mistake, Passing, verdicts
from captionless.evaluation.assessment.prompts import Asked, spread, what_to_ask
from captionless.evaluation.classifier import ReferenceClassifier, learnable_labels, mirrors_images, train_reference
from captionless.evaluation.data import ImageSet, load_labelled_images
from captionless.evaluation.metrics import Estimate, TooFewError
from captionless.evaluation.samples import EvaluationSampler
from captionless.files import make_folder
from captionless.generation.generator import MAX_SEED, Generator, load
from captionless.generation.prompts import read_prompts
from captionless.generation.sample import to_images
from captionless.progress import Progress, Silent


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
    judge: ReferenceClassifier | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Grade:
    """Grade a model: a classifier of pixels, trained on real pictures of each class, must recognise those painted.

    Four fifths of the folder's different pictures train the classifier. How often it is right on the rest, class by
    class, says what its word is worth.

    Args:
        model: a model folder, or ``bundled``.
        data: a folder of real pictures, each class in a sub-folder; not needed where ``judge`` is given.
        prompts: a file of prompts with labels, see ``captionless.generation.prompts.read_prompts``; the pictures of a
            class
            are spread over its prompts. Without it, a model of classes is asked for those that the folder has too, any
            other for "a photo of a LABEL".
        n: pictures a class.
        passing: the share of each class's pictures that must be recognised, above 0 and at most 1; or ``ceiling``: of
            each class as large a share as of its held-out real pictures.
        labels: a CSV with the columns ``file`` and ``label``, in place of the sub-folders.
        encoder: where the model's own encoder lies now, if it has moved.
        sampling: how pictures are drawn.
        seed: of noise, and of the classifier.
        judge: a classifier trained before, such as another grade's; the folder is then not read.
        out: a folder to write ``grade.json`` and a sheet of the pictures that were not recognised into.
        progress: receives remarks and progress.

    Returns:
        The grade; ``passed`` is its verdict.

    Raises:
        CaptionlessError: bad input, a folder that no classifier can learn from, or no class to grade.
    """
    check_request(n, passing, seed, out)
    progress, sampling = progress or Silent(), sampling or SamplingConfig()
    given = None if prompts is None else read_prompts(Path(prompts))
    generator = load(model, None if load_config(model).classes else encoder)
    subject = judge or _read(data, generator, progress, labels)
    asked, left_out = what_to_ask(generator, *_labels(subject), given)
    texts = [text for ask in asked.values() for text in spread(ask, n)]
    # Before the classifier learns, so that what cannot be asked does not cost its time.
    conditions = _conditions(generator, texts, sampling.bridge)
    if isinstance(subject, ImageSet):
        subject = train_reference(subject, progress, seed=seed, flip=mirrors_images(generator.model.config))
    notes = check_judge(subject, asked, passing)
    sampler = EvaluationSampler(generator, sampling, seed, progress)
    table, mistakes = _look(sampler.sample(conditions), sampler.seeds(len(texts)), texts, asked, subject)
    grade = Grade(
        str(model),
        str(data or ""),
        _settings(sampler),
        passing,
        subject.classes,
        verdicts(subject, asked, table, passing),
        tuple(tuple(row) for row in table.tolist()),
        accuracy_on_real(subject, asked),
        left_out,
        notes,
        mistakes,
        subject,
    )
    if out is not None:
        write(Path(out), grade)
    return grade


def check_request(n: int, passing: Passing, seed: int, out: str | Path | None) -> None:
    """Refuse what no grade can come of, before any work.

    Raises:
        CaptionlessError: no picture, a bar that is no share, an impossible seed, or a place that cannot be written.
    """
    if n < 1:
        raise CaptionlessError(f"-n must be at least 1 picture a class, not {n}. Try 100.")
    if passing != CEILING and not (isinstance(passing, float | int) and 0 < passing <= 1):
        raise CaptionlessError(f"--pass must be a share above 0 and at most 1, or {CEILING}, not {passing}. Try 0.95.")
    if not 0 <= seed <= MAX_SEED:
        raise CaptionlessError(f"`seed` must be a whole number from 0 to {MAX_SEED}, not {seed}.")
    if out is not None:
        make_folder(Path(out))


def check_judge(judge: ReferenceClassifier, asked: Asked, passing: Passing) -> tuple[str, ...]:
    """Return what must be kept in mind of the classifier's word on the classes asked for.

    Raises:
        CaptionlessError: its word is worth nothing: it recognises real pictures no more often than chance would; or
            the bar is to be its accuracy, and a class has no real picture to test it with.
    """
    chance, real = 1 / len(judge.classes), accuracy_on_real(judge, asked)
    if real is None:
        if passing == CEILING:
            raise CaptionlessError(
                "the classifier was not tested on real pictures, so there is no ceiling. Name a share."
            )
        return ("The classifier was not tested on real pictures.",)
    if real.value <= chance:
        raise CaptionlessError(
            f"the classifier learned nothing: it recognises {real.value:.0%} of {real.n} real pictures, and chance "
            f"{chance:.0%}, so it cannot grade. Give it more pictures of each class, or classes that differ more."
        )
    notes = []
    if real.low <= chance:
        notes.append(
            f"The classifier recognises {real.value:.0%} of {real.n} held-out real pictures, too few to be sure that "
            f"it is better than chance ({chance:.0%})."
        )
    if passing != CEILING and (hard := [name for name, one in _tested(judge, asked) if one.value < passing]):
        notes.append(
            f"Real pictures would miss this bar too, the classifier being what it is: {', '.join(hard)}. --pass "
            f"{CEILING} asks no more of each class than real pictures reach."
        )
    return tuple(notes)


def accuracy_on_real(judge: ReferenceClassifier, asked: Asked) -> Estimate | None:
    """Return a classifier's accuracy on held-out real pictures of the classes asked for, each counting alike."""
    return judge.ceiling(torch.tensor([judge.classes.index(label) for label in asked]))


def _tested(judge: ReferenceClassifier, asked: Asked) -> list[tuple[str, Estimate]]:
    pairs = zip(judge.classes, judge.by_class, strict=True)
    return [(name, one) for name, one in pairs if one is not None and name in asked]


def _read(data: str | Path | None, generator: Generator, progress: Progress, labels: str | Path | None) -> ImageSet:
    """Return the labelled pictures of the folder, the same ones whichever model of this size is graded."""
    if data is None:
        raise CaptionlessError("--data is missing. Name a folder of real pictures, each class in a sub-folder.")
    return _different(load_labelled_images(data, generator, progress, labels), progress)


def _different(pictures: ImageSet, progress: Progress) -> ImageSet:
    """Return the labelled pictures, without those that show the same pixels as another in a file of other bytes.

    Of two such files the classifier could learn one and be tested with the other.
    """
    labelled = [place for place, label in enumerate(pictures.labels) if label]
    first: dict[bytes, int] = {}
    for place in labelled:
        first.setdefault(hashlib.sha256(pictures.pixels[place].numpy().tobytes()).digest(), place)
    if copies := len(labelled) - len(first):
        progress.say(f"  the same pixels in another file, counted once: {copies:,} pictures.")
    return pictures.take(list(first.values()))


def _labels(subject: ReferenceClassifier | ImageSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels that the classifier knows, or is going to, and those of too few pictures."""
    if isinstance(subject, ReferenceClassifier):
        return subject.classes, subject.left_out
    try:
        return learnable_labels(subject)
    except TooFewError as error:
        raise CaptionlessError(
            f"{error}. Lay the pictures of each class into a sub-folder of its own, or name a table: --labels FILE.csv."
        ) from error


def _conditions(generator: Generator, texts: Sequence[str], bridge: str) -> Tensor:
    """Return the condition of each text, (n, d), each different one asked for once."""
    different = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return generator.conditions(list(different), bridge)[[different[text] for text in texts]]


def _look(
    pixels: Tensor, seeds: Sequence[int], texts: Sequence[str], asked: Asked, judge: ReferenceClassifier
) -> tuple[Tensor, tuple[Mistake, ...]]:
    """Let the classifier name paintings, as many of each class in turn.

    Returns:
        How many of each class asked for (rows) were named as each (columns), and those named wrongly.
    """
    n, labels = len(texts) // len(asked), list(asked)
    seen = judge.named(pixels)
    table = torch.nn.functional.one_hot(seen, len(judge.classes)).reshape(len(asked), n, -1).sum(1)
    names = [judge.classes[place] for place in seen.tolist()]
    wrong = [i for i, name in enumerate(names) if name != labels[i // n]]
    images = to_images(pixels[wrong])
    return table, tuple(
        Mistake(labels[i // n], names[i], texts[i], seeds[i], image) for i, image in zip(wrong, images, strict=True)
    )


def _settings(sampler: EvaluationSampler) -> str:
    sampling = sampler.sampling
    precision = resolve_precision(sampling.precision, sampler.generator.device)
    return (
        f"guidance {sampling.guidance:g}, {sampling.steps} steps of {sampling.sampler}, {precision}, "
        f"seed {sampler.seed}"
    )
