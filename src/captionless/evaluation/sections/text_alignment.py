"""The part of an evaluation on faithfulness to words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.evaluation.classifier import ReferenceClassifier
from captionless.evaluation.data import Images
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
from captionless.evaluation.report.results import Figure, ImageGrid, Section, Table
from captionless.evaluation.samples import EvaluationSampler
from captionless.generation.grids import sample_grid
from captionless.generation.prompts import Prompt, photo_of
from captionless.generation.sample import to_images

IMAGES = 300
"""Painted from prompts, about, in all."""
MOST_EACH = 60
FEW = 10
SHEET_ROWS, SHEET_COLUMNS = 20, 8
SEEDS = 1_000_000
"""Added to the seeds, so that these pictures share no noise with others."""

_Seen = tuple[Tensor, Tensor, Tensor]
"""Pictures, uint8 (n, channels, size, size), their features (n, f), and the place of each one's prompt (n,)."""


@dataclass(frozen=True)
class Asked:
    """The prompts of an evaluation, and where they come from."""

    prompts: tuple[Prompt, ...]
    source: str

    @property
    def each(self) -> int:
        """Pictures a prompt."""
        return min(MOST_EACH, max(1, round(IMAGES / len(self.prompts))))


def words_section(
    studio: EvaluationSampler, asked: Asked, judge: ReferenceClassifier | str, real: Images, real_features: Tensor
) -> tuple[Section, Tensor, Tensor]:
    """Paint every prompt, and measure how well the pictures show what was asked.

    Args:
        studio: the model.
        asked: what to paint; of a model of classes, their names.
        judge: names what pictures show; or why there is none.
        real: real pictures, to say what figures those have, where prompts are nothing but their labels.
        real_features: theirs, (m, f).

    Returns:
        The section, the pictures, uint8 (n, channels, size, size), and their features.
    """
    texts, labels = [prompt.text for prompt in asked.prompts], [prompt.label for prompt in asked.prompts]
    generator, each = studio.generator, asked.each
    owner = torch.arange(len(texts)).repeat_interleave(each)
    pixels = studio.paint(generator.conditions(texts, studio.sampling.bridge)[owner], offset=SEEDS)
    features = studio.look(pixels, "Looking at paintings")
    figures: list[Figure] = []
    missing: list[tuple[str, str]] = []
    tables: list[Table] = []
    known = _under_labels(asked.prompts, real)
    beside = (real.take(known[0]).pixels, real_features[known[0]], torch.tensor(known[1])) if known[0] else None
    _measure_cosines(studio, texts, (pixels, features, owner), beside, figures, missing)
    _measure_labels(labels, pixels, owner, judge, figures, missing, tables)
    notes = []
    if len(texts) < FEW:
        notes.append(f"The ranges of cosine and own prompt are too narrow for fewer than {FEW} prompts.")
    note = f"{len(texts):,} prompts from {asked.source}, {each} pictures of each, bridge {studio.sampling.bridge}."
    section = Section(
        "words", tuple(figures), tuple(missing), (), tuple(tables), (_sheet(texts, pixels, each),), (note, *notes)
    )
    return section, pixels, features


def _under_labels(prompts: Sequence[Prompt], real: Images) -> tuple[list[int], list[int]]:
    """Return which real pictures have a prompt that names their label and no more, and the places of those prompts.

    Nothing where a prompt says more than a label: how well a real picture should fit that is not known.
    """
    place = {prompt.label: i for i, prompt in enumerate(prompts)}
    if any(prompt.label is None or prompt != photo_of(prompt.label) for prompt in prompts):
        return [], []
    rows = [i for i, label in enumerate(real.labels) if label in place]
    return rows, [place[real.labels[i]] for i in rows]


def _measure_cosines(
    studio: EvaluationSampler,
    texts: Sequence[str],
    sampled: _Seen,
    real: _Seen | None,
    figures: list[Figure],
    missing: list[tuple[str, str]],
) -> None:
    """Compare pictures with words, where there is an encoder of both."""
    features, name = studio.features, "Cosine with the words, R-precision"
    if studio.generator.classes:
        missing.append((name, "the model paints classes, not words"))
        return
    # Features of pictures alone: the model's own encoder knows the words.
    encoder = studio.generator.encoder if features.encode_texts is None else None
    words = (encoder or features).encode_texts(list(texts))  # type: ignore[misc]
    words = F.normalize(words, dim=1)
    own = encoder is not None or not features.independent
    by = f"By {(encoder or features).name}" + (", the model's own encoder: not independent." if own else ".")

    def measure(seen: _Seen) -> tuple[Estimate, Estimate]:
        pixels, found, owner = seen
        images = F.normalize(encoder.encode_images(to_images(pixels)) if encoder else found, dim=1)
        return cosine_gain(images, words, owner), r_precision(images, words, owner)

    try:
        choices = choice_count(len(distinct_texts(words)[0]))
        gain, precision = measure(sampled)
    except TooFewError as error:
        missing.append((name, str(error)))
        return
    gain_real, precision_real = _unless_too_few(measure, real)
    beside = " Beside it: real pictures under the prompt of their own label." if gain_real else ""
    figures += [
        Figure(
            "cosine_gain",
            "Cosine with the words, above shuffled",
            gain,
            gain_real,
            digits=3,
            explanation="Mean cosine of each picture with its own prompt, minus that with the others' prompts; 0 is no "
            f"better than chance.{beside} {by}",
        ),
        Figure(
            "r_precision",
            f"Picks its own prompt out of {choices}",
            precision,
            precision_real,
            percent=True,
            explanation=f"How often a picture's own prompt is the closest to it among {choices}; by chance "
            f"{100 / choices:.1f}%.{beside} {by}",
        ),
    ]


def _unless_too_few(
    measure: Callable[[_Seen], tuple[Estimate, Estimate]], seen: _Seen | None
) -> tuple[Estimate, Estimate] | tuple[None, None]:
    try:
        return measure(seen) if seen else (None, None)
    except TooFewError:
        return None, None


def _measure_labels(
    labels: Sequence[str | None],
    pixels: Tensor,
    owner: Tensor,
    judge: ReferenceClassifier | str,
    figures: list[Figure],
    missing: list[tuple[str, str]],
    tables: list[Table],
) -> None:
    """Let the independent classifier say what the labelled prompts' pictures show."""
    name = "Recognised as asked"
    if isinstance(judge, str):
        missing.append((name, judge))
        return
    strange = sorted({label for label in labels if label and label not in judge.classes})
    usable = torch.tensor([label in judge.classes for label in labels])
    if not bool(usable.any()):
        why = f"the folder has too few pictures, or none, labelled {', '.join(strange[:3])}"
        missing.append((name, f"{why}; its labels are {', '.join(judge.classes[:10])}"))
        return
    if strange:
        why = "the folder has no such label, or too few pictures of it"
        missing.append((f"Recognised as asked, for {', '.join(strange[:5])}", why))
    rows = usable[owner]
    wanted = torch.tensor([judge.classes.index(label) if label in judge.classes else -1 for label in labels])[owner]
    right = judge.right(pixels[rows], wanted[rows])
    few = int(usable.sum()) < FEW
    figures.append(
        Figure(
            "recognised",
            name,
            share(int(right.sum()), len(right)) if few else cluster_mean(right.double(), owner[rows], 0),
            judge.ceiling(wanted[rows]),
            percent=True,
            explanation="A small network, trained on the pixels of the folder's pictures and sharing nothing with the "
            "encoder, names what was asked. Beside it: how often it is right on real pictures of the same labels, as "
            f"often each, that it has not seen. The range is for other {'noise' if few else 'prompts of the kind'}.",
        )
    )
    tables.append(judge.table(pixels[rows], wanted[rows]))


def _sheet(texts: Sequence[str], pixels: Tensor, each: int) -> ImageGrid:
    step = max(1, len(texts) // SHEET_ROWS)
    shown = range(0, len(texts), step)[:SHEET_ROWS]
    images = to_images(pixels)
    rows = [images[i * each : i * each + min(each, SHEET_COLUMNS)] for i in shown]
    note = "" if step == 1 else f"Every {step}th prompt of {len(texts):,}; not picked over."
    sheet = sample_grid(rows, [texts[i] for i in shown], cell=max(96, pixels.shape[-1]))
    return ImageGrid("What the prompts became", sheet, note)
