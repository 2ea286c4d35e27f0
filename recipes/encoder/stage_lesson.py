"""Teach the text side of an encoder the stages of a flower; its image side stays as it is, byte for byte.

python recipes/encoder/stage_lesson.py --photos DIR --out DIR [--encoder bundled] [--teacher ENCODER] [--work DIR]

The last step of `train.py`, and a program of its own, which starts from the text tower of ``--encoder``. Everything the
tower knew is repeated (its own vectors are the targets), except the names of seed heads and buds, which had meant the
flower at any stage.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from corpus import Sentence, build_corpus
from lexicon import held_out
from photographs import Photograph, load_pixels, normalise, random_view, read_records
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from sentences import KINDS, article, field_sentences, plural
from stages import Cell, cells, stage_targets
from text_tower import Lesson, TextLearner, TextTraining, train_text_tower
from torch import Tensor
from torch.nn import functional as F

from captionless.encoders.dual_encoder import Encoder, load_encoder

SETTINGS = TextTraining(epochs=4.0, rate=2e-4)
VIEWS = 4
WEIGHTS = "model.safetensors"
TEXT = "text_"
"""The prefix of the names of the text side's tensors."""

Words = Callable[[Sequence[str]], Tensor]


def image_banks(encoder: Encoder, photos: Path, records: Sequence[Photograph], views: int = VIEWS) -> list[Tensor]:
    """Return the photographs' unit vectors (n, d): of the whole, as the encoder reads it, then of random views."""
    rng = np.random.default_rng(0)
    whole = []
    for record in records:
        with Image.open(photos / record.file) as image:
            whole.append(encoder.encode_images([image]))
    banks, pixels = [torch.cat(whole)], load_pixels(photos, records)
    for _ in range(views):
        found = []
        for start in range(0, len(pixels), 16):
            batch = normalise(torch.stack([random_view(image, rng) for image in pixels[start : start + 16]]))
            with torch.no_grad():
                found.append(F.normalize(encoder.model.get_image_features(pixel_values=batch).pooler_output, dim=1))
        banks.append(torch.cat(found))
    return banks


def vocabulary_sentences(vocabulary: Iterable[str]) -> list[str]:
    """Return a sentence with each whole word of a vocabulary, so that words of no other sentence keep their place."""
    words = sorted(word for word in vocabulary if re.fullmatch(r"[a-z]{3,}", word) and not held_out(word))
    kinds = [KINDS[number % len(KINDS)] for number in range(len(words))]
    pairs = enumerate(zip(words, kinds, strict=True))
    return [f"{article(word)} {kind}" if number % 2 else f"{word} {plural(kind)}" for number, (word, kind) in pairs]


def stage_lesson(
    records: Sequence[Photograph], vocabulary: Iterable[str], banks: Sequence[Tensor], words: Words, scale: float
) -> Lesson:
    """Return what the tower knows, to repeat, and the sentences about stages.

    Args:
        records: the photographs.
        vocabulary: the word pieces of the tower.
        banks: the photographs' vectors, (n, d), one tensor per view.
        words: the text tower as it is.
        scale: inverse temperature of the encoder.
    """
    every = list(cells(records))
    weights = torch.stack([cell.weights(records) for cell in every])
    start = F.normalize(weights @ words([record.caption for record in records]), dim=1)
    places = stage_targets(weights, start, banks, scale)
    new = [(text, place) for cell, place in zip(every, places, strict=True) for text in _said(cell)]
    taught = {text for text, _ in new}
    captions = [Sentence(record.caption, "", row) for row, record in enumerate(records)]
    corpus = [sentence for sentence in build_corpus(records, field_sentences(records)) if sentence.image < 0]
    plain = [*corpus, *(Sentence(text, "") for text in vocabulary_sentences(vocabulary))]
    known = [*captions, *captions, *(sentence for sentence in plain if sentence.text not in taught)]
    texts = [*(sentence.text for sentence in known), *(text for text, _ in new)]
    targets = torch.cat([words(texts[: len(known)]), torch.stack([place for _, place in new])])
    return Lesson(texts, targets, torch.tensor([*(sentence.image for sentence in known), *[-1] * len(new)]))


def _said(cell: Cell) -> list[str]:
    """Return a cell's sentences; those of rare stages twice."""
    return cell.sentences() * (2 if cell.stage in ("bud", "opening") else 1)


def as_learner(encoder: Encoder) -> TextLearner:
    """Return the encoder's text side as a learner, whose word vectors stand still, as a hold for rare words."""
    learner = TextLearner(encoder.model.text_model).requires_grad_(True)
    learner.bert.embeddings.requires_grad_(False)
    learner.projection.weight.data.copy_(encoder.model.text_projection.weight)
    return learner


def write_text_side(source: Path, target: Path, learner: TextLearner) -> None:
    """Write the folder ``source`` to ``target`` (which may be the same) with another text side, in the same format."""
    with safe_open(source / WEIGHTS, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    learned = {f"text_model.{name}": value for name, value in learner.bert.state_dict().items()}
    learned["text_projection.weight"] = learner.projection.weight.detach()
    if missing := {name for name in tensors if name.startswith(TEXT)} - learned.keys():
        raise SystemExit(f"these tensors of the text side were not learned: {sorted(missing)}")
    changed = {
        name: learned[name].to(value.dtype).contiguous() if name.startswith(TEXT) else value
        for name, value in tensors.items()
    }
    target.mkdir(parents=True, exist_ok=True)
    if source != target:
        shutil.copytree(source, target, dirs_exist_ok=True)
    part = target / f"{WEIGHTS}.part"
    save_file(changed, part, metadata)
    part.chmod(0o644)  # safetensors writes for the owner alone
    part.replace(target / WEIGHTS)


def teach_stages(
    encoder: Encoder,
    teacher: Encoder,
    records: Sequence[Photograph],
    banks: Sequence[Tensor],
    out: Path,
    settings: TextTraining = SETTINGS,
) -> None:
    """Train the text side of ``encoder`` to keep what ``teacher`` knows, and write the encoder with it to ``out``."""
    digest = encoder.digest
    lesson = stage_lesson(records, encoder.tokenizer.get_vocab(), banks, teacher.encode_texts, encoder.logit_scale)
    print(f"{len(lesson.texts)} sentences", flush=True)

    def report(done: int, _: TextLearner) -> None:
        print(f"  stages: {done}", flush=True)

    learner = as_learner(encoder)
    trained = train_text_tower(learner, encoder.tokenizer, lesson, banks, encoder.logit_scale, settings, report)
    write_text_side(encoder.folder, out, trained)
    if load_encoder(str(out)).digest != digest:
        raise SystemExit(f"{out} has another image side than {encoder.folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with captions.jsonl and train/")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--encoder", default="bundled", help="the encoder to start from")
    parser.add_argument("--teacher", help="an encoder with the same image side, to repeat; default: --encoder")
    parser.add_argument("--epochs", type=float, default=SETTINGS.epochs)
    parser.add_argument("--work", type=Path, help="folder that keeps the image vectors; default: OUT-work")
    arguments = parser.parse_args()
    work = arguments.work or arguments.out.with_name(arguments.out.name + "-work")
    work.mkdir(parents=True, exist_ok=True)
    encoder, records = load_encoder(arguments.encoder), read_records(arguments.photos, "train")
    path = work / f"banks-{encoder.digest[:12]}.pt"
    if not path.exists():
        torch.save(image_banks(encoder, arguments.photos, records), path)
    teacher = load_encoder(arguments.teacher) if arguments.teacher else encoder
    settings = replace(SETTINGS, epochs=arguments.epochs)
    teach_stages(encoder, teacher, records, torch.load(path, weights_only=True), arguments.out, settings)


if __name__ == "__main__":
    main()
