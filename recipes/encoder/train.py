"""Make the bundled encoder from captioned flower photographs: about half an hour on two cores.

python recipes/encoder/train.py --photos DIR --out DIR [--work DIR]

``--photos`` contains captions.jsonl and train/; the split ``val`` is not read. ``--work`` keeps the result of each
step, so that an interrupted run continues with the next step. ``--quick`` checks the whole recipe in a few minutes.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import build_corpus
from domain import NEIGHBOURS, QUANTILE, choose_references
from export import join, learned_weights, plain_tower, write_domain, write_folder
from image_tower import AttributeBank, ImageLearner, ImageTraining, WordMap, cached_views, train_image_tower
from learned_words import write_learned_words
from lexicon import HELD_OUT, names, shades
from lite1 import load_lite1, without_gates
from minilm import load_minilm, sentence_vectors
from photographs import SIDE, Photograph, load_pixels, read_records
from sentences import field_sentences
from stage_lesson import SETTINGS, teach_stages
from stages import cells
from text_tower import Lesson, TextLearner, TextTraining, student, train_text_tower
from torch import Tensor
from vocabulary import caption_words, choose_pieces, near_words, prune_tokenizer, write_words
from word_teacher import WordTraining, refine_words

from captionless.encoders.dual_encoder import load_encoder

PIECES = 2500
"""The number of word pieces for which 20 MB leave room."""


@dataclass(frozen=True)
class Run:
    """The settings of the four trainings, and the folders."""

    photos: Path
    work: Path
    out: Path
    image: ImageTraining
    words: WordTraining
    text: TextTraining
    stages: TextTraining
    records: list[Photograph]


def kept(run: Run, name: str, make: Callable[[], Any]) -> Any:
    """Return the result of ``make``, or that of an earlier run from the work folder."""
    path, start = run.work / f"{name}.pt", time.perf_counter()
    if not path.exists():
        made = make()
        part = path.with_suffix(".part")
        torch.save(made, part)
        part.replace(path)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return torch.load(path, weights_only=True)


def image_stage(run: Run, embed: Callable[[Sequence[str]], Tensor]) -> dict[str, Any]:
    """Train the image tower; return its learned weights and the photographs' vectors of every view."""
    tower = load_lite1(SIDE)
    without_gates(tower)
    tower = tower.to(memory_format=torch.channels_last)
    maps = kept(run, "maps", lambda: cached_views(tower, load_pixels(run.photos, run.records), run.image))
    captions, same = _captions(run.records, embed)
    bank = AttributeBank(run.records, embed)
    learner = train_image_tower(tower, maps, captions, same, bank, run.image, _progress)
    learned = learned_weights(learner.tower)
    _as_shipped(learner)
    with torch.inference_mode():
        banks = [torch.cat([learner.images(part) for part in view.split(64)]) for view in maps]
    return {
        "learned": learned,
        "projection": learner.projection.weight.detach().clone(),
        "words": learner.words.state_dict(),
        "scale": float(learner.logit_scale.detach()),
        "banks": [bank.clone() for bank in banks],
    }


def word_stage(run: Run, image: dict[str, Any], embed: Callable[[Sequence[str]], Tensor]) -> dict[str, Tensor]:
    """Refine the word map of the image stage."""
    words = WordMap()
    words.load_state_dict(image["words"])
    captions, same = _captions(run.records, embed)
    bank, scale = AttributeBank(run.records, embed), math.exp(image["scale"])
    return refine_words(words, image["banks"], captions, same, bank, scale, run.words).state_dict()


def text_stage(
    run: Run, image: dict[str, Any], words: dict[str, Tensor], embed: Callable[[Sequence[str]], Tensor]
) -> dict[str, Any]:
    """Train the small text tower; return its weights and the vocabulary's pieces."""
    teacher, tokenizer = load_minilm(run.work)
    word_map = WordMap().eval()
    word_map.load_state_dict(words)
    corpus = build_corpus(run.records, field_sentences(run.records))
    with torch.inference_mode():
        targets = word_map(embed([sentence.plain for sentence in corpus]))
    lesson = Lesson(
        [sentence.text for sentence in corpus],
        targets.clone(),
        torch.tensor([sentence.image for sentence in corpus]),
    )
    stage_words = (text for cell in cells(run.records) for text in cell.wordings())
    needed = [*lesson.texts, *stage_words, *shades(), *names(), *HELD_OUT, *near_words(teacher, tokenizer)]
    pieces = choose_pieces(tokenizer, needed, PIECES)
    learner = student(teacher, pieces, run.text.layers)
    small = prune_tokenizer(tokenizer, pieces)
    scale = math.exp(image["scale"])
    trained = train_text_tower(learner, small, lesson, image["banks"], scale, run.text, _progress)
    return {"state": trained.state_dict(), "pieces": pieces}


def export_stage(run: Run, image: dict[str, Any], text: dict[str, Any]) -> None:
    """Write the model folder."""
    teacher, tokenizer = load_minilm(run.work)
    learner = student(teacher, text["pieces"], run.text.layers)
    learner.load_state_dict(text["state"])
    model = join(
        plain_tower(image["learned"]),
        image["projection"],
        learner.bert,
        learner.projection.weight.detach(),
        image["scale"],
    )
    write_folder(run.out, model, prune_tokenizer(tokenizer, text["pieces"]))
    reference, threshold = choose_references(image["banks"][0])
    write_domain(run.out, reference, NEIGHBOURS, threshold, QUANTILE)
    write_learned_words(run.out, (record.caption for record in run.records))
    write_words(run.work / "caption_words.txt", caption_words(record.caption for record in run.records))
    card = Path(__file__).with_name("card.md")
    shutil.copyfile(card, run.out / "README.md")


def _as_shipped(learner: ImageLearner) -> None:
    """Round the image side to float16, so that the text tower learns from exactly the vectors that ship."""
    learner.requires_grad_(False)
    for parameter in (*learner.tower.parameters(), *learner.tower.buffers(), learner.projection.weight):
        if parameter.is_floating_point():
            parameter.copy_(parameter.half().float())


def _captions(records: Sequence[Photograph], embed: Callable[[Sequence[str]], Tensor]) -> tuple[Tensor, Tensor]:
    texts = [record.caption for record in records]
    _, same = np.unique(texts, return_inverse=True)
    return embed(texts), torch.from_numpy(same)


def _progress(done: int, learner: ImageLearner | TextLearner) -> None:
    print(f"  {type(learner).__name__}: {done}", flush=True)


def _embedder(run: Run) -> Callable[[Sequence[str]], Tensor]:
    """Return MiniLM's sentence vectors, computing each sentence once."""
    memory: dict[str, Tensor] = {}
    model, tokenizer = load_minilm(run.work)

    def embed(texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in memory]
        if new:
            memory.update(zip(new, sentence_vectors(new, model, tokenizer), strict=True))
        return torch.stack([memory[text] for text in texts])

    return embed


def _settings(arguments: argparse.Namespace) -> Run:
    records = read_records(arguments.photos, "train")
    image, words, text, stages = ImageTraining(), WordTraining(), TextTraining(), SETTINGS
    if arguments.quick:
        records = records[:: max(1, len(records) // 200)]
        image, words = replace(image, epochs=1, views=1), replace(words, epochs=1)
        text, stages = replace(text, epochs=0.1), replace(stages, epochs=0.1)
    work = arguments.work or arguments.out.with_name(arguments.out.name + "-work")
    return Run(arguments.photos, work, arguments.out, image, words, text, stages, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with captions.jsonl and train/")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--work", type=Path, help="folder for intermediate results; default: OUT-work")
    parser.add_argument("--quick", action="store_true", help="a tenth of the photographs, hardly any training")
    run = _settings(parser.parse_args())
    run.work.mkdir(parents=True, exist_ok=True)
    embed = _embedder(run)
    image = kept(run, "image", lambda: image_stage(run, embed))
    words = kept(run, "words", lambda: word_stage(run, image, embed))
    text = kept(run, "text", lambda: text_stage(run, image, words, embed))
    export_stage(run, image, text)
    encoder = load_encoder(str(run.out))
    teach_stages(encoder, encoder, run.records, image["banks"], run.out, run.stages)
    total = sum(path.stat().st_size for path in run.out.iterdir())
    print(f"{run.out}: {total / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
